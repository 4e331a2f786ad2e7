select
    id as model_version_id,
    version,
    strategy_id,
    model_type,
    bundle_hash,
    mlflow_version,
    mlflow_run_id,
    trained_at,
    training_duration_seconds,
    training_dataset_size,
    exists (
        select 1
        from {{ ref("stg_deployments") }} as deployments
        where deployments.model_version_id = versions.id and deployments.role = 'champion' and deployments.is_open
    ) as is_active,
    is_warmup_mode,
    created_at,
    updated_at
from {{ source("surveillance", "model_versions") }} as versions
