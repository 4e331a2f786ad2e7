-- One row per bar, revision and bundle: the prediction and, once known, the price move that followed.
with predictions as (
    select distinct on (symbol, timeframe, bar_start, revision, bundle_hash)
        *
    from {{ ref("stg_predictions") }}
    order by symbol, timeframe, bar_start, revision, bundle_hash, knowledge_time desc, prediction_id
),

decided as (
    select
        *,
        case greatest(buy_probability, hold_probability, sell_probability)
            when buy_probability then 'BUY'
            when sell_probability then 'SELL'
            when hold_probability then 'HOLD'
        end as predicted_direction
    from predictions
)

select
    prediction_id,
    symbol,
    timeframe,
    bar_start,
    bar_day,
    revision,
    bundle_hash,
    price,
    anomaly_score,
    horizon_minutes,
    is_warmup,
    coalesce(committed_at, knowledge_time) as scored_at,
    {{ utc_day("coalesce(committed_at, knowledge_time)") }} as scored_day,
    predicted_direction,
    outcome_return,
    outcome_direction,
    outcome_at,
    outcome_at is not null as is_outcome_known,
    predicted_direction = outcome_direction as is_hit
from decided
