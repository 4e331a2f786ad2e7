{{ config(meta={
    "description": "A tenant, strategy and kind of model has at most one champion at a time.",
    "dagster": {"ref": {"name": "stg_deployments"}},
}) }}
select tenant, strategy_id, model_kind, count(*) as champions
from {{ ref("stg_deployments") }}
where role = 'champion' and is_open
group by tenant, strategy_id, model_kind
having count(*) > 1
