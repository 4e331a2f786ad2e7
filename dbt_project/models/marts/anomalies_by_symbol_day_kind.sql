select
    alerts.tenant::text as tenant,
    alerts.symbol::text as symbol,
    max(instruments.asset_class)::text as asset_class,
    alerts.timeframe::text as timeframe,
    alerts.bar_day::date as day,
    alerts.kind::text as kind,
    count(*)::bigint as alerts,
    count(*) filter (where alerts.alert_status = 'opened')::bigint as open_alerts,
    count(*) filter (where alerts.alert_status = 'confirmed')::bigint as confirmed_alerts,
    count(*) filter (where alerts.alert_status = 'retracted')::bigint as retracted_alerts,
    count(*) filter (where alerts.is_warmup)::bigint as warmup_alerts,
    count(*) filter (where alerts.is_fallback)::bigint as fallback_alerts,
    max(alerts.max_score)::double precision as max_score,
    avg(alerts.latest_score)::double precision as mean_score,
    avg(alerts.latest_confidence)::double precision as mean_confidence,
    max(alerts.max_risk_score)::double precision as max_risk_score,
    min(alerts.bar_start)::timestamptz as first_bar_start,
    max(alerts.bar_start)::timestamptz as last_bar_start
from {{ ref("int_alerts") }} as alerts
left join {{ ref("stg_instruments") }} as instruments using (symbol)
group by alerts.tenant, alerts.symbol, alerts.timeframe, alerts.bar_day, alerts.kind
