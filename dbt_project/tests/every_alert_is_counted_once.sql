{{ config(meta={
    "description": "The mart counts each alert id exactly once; alerts opened since the build began may be missing.",
    "dagster": {"ref": {"name": "anomalies_by_symbol_day_kind"}},
}) }}
select counted.alerts, folded.least, folded.most
from (select coalesce(sum(alerts), 0) as alerts from {{ ref("anomalies_by_symbol_day_kind") }}) as counted
cross join (
    select
        count(distinct alert_id) as most,
        count(distinct alert_id) filter (where {{ is_well_before_the_build() }}) as least
    from {{ ref("stg_anomalies") }}
) as folded
where counted.alerts not between folded.least and folded.most
