{{ config(meta={
    "description": "The median, the 95th and 99th percentiles and the maximum are in ascending order.",
    "dagster": {"ref": {"name": "serving_latency_by_hour"}},
}) }}
select hour_start, stage, p50_ms, p95_ms, p99_ms, max_ms
from {{ ref("serving_latency_by_hour") }}
where not (p50_ms <= p95_ms and p95_ms <= p99_ms and p99_ms <= max_ms)
