-- One row per alert. A later revision of the bar takes precedence over an earlier one, and the closed bar over the bar
-- in progress; that row has the latest status of the alert.
with rows_ranked as (
    select
        *,
        coalesce(committed_at, knowledge_time) as status_at,
        row_number() over (
            partition by alert_id
            order by
                revision desc,
                (bar_status <> 'provisional') desc,
                (alert_status <> 'opened') desc,
                knowledge_time desc,
                anomaly_id
        ) as recency
    from {{ ref("stg_anomalies") }}
),

summary as (
    select
        alert_id,
        min(status_at) as opened_at,
        min(status_at) filter (where alert_status = 'confirmed') as confirmed_at,
        max(status_at) filter (where alert_status = 'retracted') as last_retracted_at,
        max(score) as max_score,
        max(risk_score) as max_risk_score,
        count(*) as row_count
    from rows_ranked
    group by alert_id
)

select
    latest.alert_id,
    latest.alert_status,
    latest.tenant,
    latest.symbol,
    latest.timeframe,
    latest.bar_start,
    latest.bar_day,
    latest.kind,
    latest.score as latest_score,
    latest.confidence as latest_confidence,
    latest.price as latest_price,
    latest.bundle_hash,
    latest.source,
    latest.is_warmup,
    latest.is_fallback,
    summary.max_score,
    summary.max_risk_score,
    summary.row_count,
    summary.opened_at,
    summary.confirmed_at,
    case when latest.alert_status = 'retracted' then summary.last_retracted_at end as retracted_at,
    {{ utc_day("summary.opened_at") }} as opened_day
from rows_ranked as latest
inner join summary using (alert_id)
where latest.recency = 1
