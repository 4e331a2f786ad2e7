select
    id as deployment_id,
    tenant,
    strategy as strategy_id,
    kind as model_kind,
    model_id,
    version,
    model_version_id,
    feature_view,
    role,
    traffic_share,
    since,
    until,
    until is null as is_open,
    decided_by,
    array_to_string(reasons, '; ') as reasons
from {{ source("surveillance", "deployments") }}
