{{ config(meta={
    "description": "The mart counts each alert id exactly once.",
    "dagster": {"ref": {"name": "anomalies_by_symbol_day_kind"}},
}) }}
select counted.alerts, folded.alerts as expected
from (select coalesce(sum(alerts), 0) as alerts from {{ ref("anomalies_by_symbol_day_kind") }}) as counted
cross join (select count(distinct alert_id) as alerts from {{ ref("stg_anomalies") }}) as folded
where counted.alerts <> folded.alerts
