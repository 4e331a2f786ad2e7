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
    is_active,
    is_warmup_mode,
    created_at,
    updated_at
from {{ source("surveillance", "model_versions") }}
