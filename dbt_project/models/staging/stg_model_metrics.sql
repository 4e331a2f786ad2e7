select
    id as metric_id,
    model_version_id,
    model as model_name,
    split as data_split,
    metric_type,
    metric_name,
    metric_value,
    evaluated_at,
    evaluation_dataset_size
from {{ source("surveillance", "model_metrics") }}
