{{ config(
    materialized="incremental", incremental_strategy="delete+insert", unique_key=["hour_start", "stage"],
    on_schema_change="append_new_columns", full_refresh=false,
) }}
-- depends_on: {{ ref("stg_ledger") }}

select
    hour_start::timestamptz as hour_start,
    stage::text as stage,
    count(*)::bigint as messages,
    percentile_cont(0.5) within group (order by latency_ms)::double precision as p50_ms,
    percentile_cont(0.95) within group (order by latency_ms)::double precision as p95_ms,
    percentile_cont(0.99) within group (order by latency_ms)::double precision as p99_ms,
    max(latency_ms)::double precision as max_ms
from {{ ref("int_stage_latencies") }}
{% if is_incremental() %}
where hour_start >= coalesce(
    {{ ledger_begin() }} at time zone 'UTC', (select max(this.hour_start) from {{ this }} as this), '-infinity'
)
{% endif %}
group by hour_start, stage
