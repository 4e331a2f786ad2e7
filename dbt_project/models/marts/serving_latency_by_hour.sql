select
    hour_start::timestamptz as hour_start,
    stage::text as stage,
    count(*)::bigint as messages,
    percentile_cont(0.5) within group (order by latency_ms)::double precision as p50_ms,
    percentile_cont(0.95) within group (order by latency_ms)::double precision as p95_ms,
    percentile_cont(0.99) within group (order by latency_ms)::double precision as p99_ms,
    max(latency_ms)::double precision as max_ms
from {{ ref("int_stage_latencies") }}
group by hour_start, stage
