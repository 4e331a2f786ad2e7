select
    tenant::text as tenant,
    symbol::text as symbol,
    timeframe::text as timeframe,
    bar_day::date as day,
    kind::text as kind,
    count(*)::bigint as alerts,
    count(*) filter (where alert_status = 'opened')::bigint as open_alerts,
    count(*) filter (where alert_status = 'confirmed')::bigint as confirmed_alerts,
    count(*) filter (where alert_status = 'retracted')::bigint as retracted_alerts,
    count(*) filter (where is_warmup)::bigint as warmup_alerts,
    count(*) filter (where is_fallback)::bigint as fallback_alerts,
    max(max_score)::double precision as max_score,
    avg(latest_score)::double precision as mean_score,
    avg(latest_confidence)::double precision as mean_confidence,
    max(max_risk_score)::double precision as max_risk_score,
    min(bar_start)::timestamptz as first_bar_start,
    max(bar_start)::timestamptz as last_bar_start
from {{ ref("int_alerts") }}
group by tenant, symbol, timeframe, bar_day, kind
