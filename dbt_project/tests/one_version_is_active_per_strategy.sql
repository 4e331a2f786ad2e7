{{ config(meta={
    "description": "At most one model version of a strategy is active.",
    "dagster": {"ref": {"name": "stg_model_versions"}},
}) }}
select strategy_id, count(*) as active_versions
from {{ ref("stg_model_versions") }}
where is_active
group by strategy_id
having count(*) > 1
