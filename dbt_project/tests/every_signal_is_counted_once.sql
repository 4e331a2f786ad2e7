{{ config(meta={
    "description": "The mart counts each signal row exactly once; rows written since the build began may be missing.",
    "dagster": {"ref": {"name": "signal_quality"}},
}) }}
select counted.signals, written.least, written.most
from (select coalesce(sum(signals), 0) as signals from {{ ref("signal_quality") }}) as counted
cross join (
    select count(*) as most, count(*) filter (where {{ is_well_before_the_build() }}) as least
    from {{ ref("stg_signals") }}
) as written
where counted.signals not between written.least and written.most
