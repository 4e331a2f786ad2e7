select
    deployments.deployment_id::bigint as deployment_id,
    deployments.tenant::text as tenant,
    deployments.strategy_id::text as strategy_id,
    deployments.model_kind::text as model_kind,
    deployments.version::text as model_version,
    deployments.model_id::text as model_id,
    deployments.role::text as role,
    deployments.traffic_share::double precision as traffic_share,
    deployments.since::timestamptz as since,
    deployments.until::timestamptz as until,
    deployments.is_open::boolean as is_open,
    deployments.decided_by::text as decided_by,
    deployments.reasons::text as reasons,
    versions.trained_at::timestamptz as trained_at
from {{ ref("stg_deployments") }} as deployments
left join {{ ref("stg_model_versions") }} as versions using (model_version_id)
