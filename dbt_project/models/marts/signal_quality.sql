with judged as (
    select
        signals.*,
        outcomes.outcome_return,
        coalesce(outcomes.is_outcome_known, false) as is_outcome_known,
        signals.action = outcomes.outcome_direction as is_hit,
        case signals.action when 'BUY' then 1 when 'SELL' then -1 end * outcomes.outcome_return as directed_return
    from {{ ref("stg_signals") }} as signals
    left join {{ ref("int_prediction_outcomes") }} as outcomes
        using (symbol, timeframe, bar_start, revision, bundle_hash)
)

select
    tenant::text as tenant,
    symbol::text as symbol,
    timeframe::text as timeframe,
    bar_day::date as day,
    action::text as action,
    count(*)::bigint as signals,
    count(*) filter (where is_warmup)::bigint as warmup_signals,
    count(*) filter (where is_outcome_known)::bigint as outcomes_known,
    count(*) filter (where is_outcome_known and is_hit)::bigint as hits,
    (avg(is_hit::int) filter (where is_outcome_known))::double precision as hit_rate,
    (avg(outcome_return) filter (where is_outcome_known))::double precision as mean_forward_return,
    (avg(directed_return) filter (where is_outcome_known))::double precision as mean_directed_return,
    avg(confidence)::double precision as mean_confidence,
    avg(risk_score)::double precision as mean_risk_score
from judged
group by tenant, symbol, timeframe, bar_day, action
