{{ config(
    materialized="incremental", incremental_strategy="delete+insert", unique_key="day",
    on_schema_change="append_new_columns", full_refresh=false,
) }}

-- The day is the date of processing, not the date of the bars: a backfill of last year counts for today.
with minutes as (
    select committed_day as day, date_trunc('minute', committed_at) as minute_start, count(*) as messages
    from {{ ref("stg_ledger") }}
    group by 1, 2
),

rates as (
    select day, count(*) as active_minutes, avg(messages) as mean_rate, max(messages) as peak_rate
    from minutes
    group by day
),

messages as (
    select
        committed_day as day,
        count(*) as messages,
        count(*) filter (where outcome = 'scored') as scored,
        count(*) filter (where outcome = 'late') as late,
        count(*) filter (where outcome = 'dead') as dead,
        count(*) filter (where outcome = 'duplicate') as duplicate
    from {{ ref("stg_ledger") }}
    group by committed_day
),

dead_letters as (
    select received_day as day, count(*) as dead_letters
    from {{ ref("stg_dead_letters") }}
    group by received_day
),

runs as (
    select
        started_day as day,
        count(*) as ingestion_runs,
        count(*) filter (where is_fallback) as fallback_runs,
        sum(rows_landed) as rows_landed,
        sum(rows_landed) filter (where is_fallback) as fallback_rows
    from {{ ref("stg_ingestion_runs") }}
    group by started_day
),

bars as (
    select scored_day as day, count(distinct (symbol, timeframe, bar_start)) as bars_scored
    from {{ ref("int_prediction_outcomes") }}
    where revision = 0
    group by scored_day
),

anomalous as (
    select opened_day as day, count(distinct (symbol, timeframe, bar_start)) as anomalous_bars
    from {{ ref("int_alerts") }}
    where alert_status <> 'retracted'
    group by opened_day
),

days as (
    select day from messages
    union
    select day from dead_letters
    union
    select day from runs
    union
    select day from bars
    union
    select day from anomalous
)

select
    days.day::date as day,
    coalesce(messages.messages, 0)::bigint as messages,
    coalesce(messages.scored, 0)::bigint as scored,
    coalesce(messages.late, 0)::bigint as late,
    coalesce(messages.dead, 0)::bigint as dead,
    coalesce(messages.duplicate, 0)::bigint as duplicate,
    coalesce(rates.active_minutes, 0)::bigint as active_minutes,
    rates.mean_rate::double precision as mean_messages_per_minute,
    coalesce(rates.peak_rate, 0)::bigint as peak_messages_per_minute,
    coalesce(dead_letters.dead_letters, 0)::bigint as dead_letters,
    coalesce(runs.ingestion_runs, 0)::bigint as ingestion_runs,
    coalesce(runs.fallback_runs, 0)::bigint as fallback_runs,
    (runs.fallback_runs::double precision / nullif(runs.ingestion_runs, 0))::double precision as fallback_run_share,
    coalesce(runs.rows_landed, 0)::bigint as rows_landed,
    coalesce(runs.fallback_rows, 0)::bigint as fallback_rows,
    coalesce(bars.bars_scored, 0)::bigint as bars_scored,
    coalesce(anomalous.anomalous_bars, 0)::bigint as anomalous_bars,
    (anomalous.anomalous_bars::double precision / nullif(bars.bars_scored, 0))::double precision as anomaly_rate
from days
left join messages using (day)
left join rates using (day)
left join dead_letters using (day)
left join runs using (day)
left join bars using (day)
left join anomalous using (day)
{% if is_incremental() %}
where days.day >= coalesce(
    {{ ledger_begin() }}::date, (select max(this.day) + 1 from {{ this }} as this where this.messages > 0), '-infinity'
)
{% endif %}
