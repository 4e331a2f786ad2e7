{{ config(meta={
    "description": "The mart counts each signal row exactly once.",
    "dagster": {"ref": {"name": "signal_quality"}},
}) }}
select counted.signals, written.signals as expected
from (select coalesce(sum(signals), 0) as signals from {{ ref("signal_quality") }}) as counted
cross join (select count(*) as signals from {{ ref("stg_signals") }}) as written
where counted.signals <> written.signals
