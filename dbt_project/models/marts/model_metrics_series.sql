with granularities as (
    select unnest(array['hour', 'day', 'week']) as granularity
)

select
    granularities.granularity::text as granularity,
    {{ utc_trunc("granularities.granularity", "metrics.evaluated_at") }}::timestamptz as period_start,
    versions.strategy_id::text as strategy_id,
    versions.version::text as model_version,
    metrics.model_name::text as model_name,
    metrics.data_split::text as data_split,
    metrics.metric_type::text as metric_type,
    metrics.metric_name::text as metric_name,
    avg(metrics.metric_value)::double precision as mean_value,
    min(metrics.metric_value)::double precision as min_value,
    max(metrics.metric_value)::double precision as max_value,
    (array_agg(metrics.metric_value order by metrics.evaluated_at desc, metrics.metric_id))[1]::double precision
        as last_value,
    count(*)::bigint as evaluations,
    sum(metrics.evaluation_dataset_size)::bigint as evaluated_rows
from {{ ref("stg_model_metrics") }} as metrics
inner join {{ ref("stg_model_versions") }} as versions using (model_version_id)
cross join granularities
group by 1, 2, 3, 4, 5, 6, 7, 8
