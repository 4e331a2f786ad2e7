-- One row per message and stage of the live lane. Predictions have the timestamps up to the commit, published rows the
-- others. `queue_to_queue` starts when the queue accepted the message that caused the row. For a closed bar this is a
-- later message than its last tick. A bar closed by the clock was not caused by a message and is excluded.
with published as (
    select correlation_id, source_message_id, bar_status, committed_at, published_at
    from {{ ref("stg_anomalies") }}
    where published_at is not null
    union all
    select correlation_id, source_message_id, bar_status, committed_at, published_at
    from {{ ref("stg_signals") }}
    where published_at is not null
),

stages as (
    select 'wait' as stage, received_at as ended_at, {{ milliseconds("received_at", "sent_at") }} as latency_ms
    from {{ ref("stg_inbox") }}
    union all
    select 'compute', computed_at, {{ milliseconds("computed_at", "received_at") }}
    from {{ ref("stg_predictions") }}
    union all
    select 'commit', committed_at, {{ milliseconds("committed_at", "computed_at") }}
    from {{ ref("stg_predictions") }}
    union all
    select 'publish', published_at, {{ milliseconds("published_at", "committed_at") }}
    from published
    union all
    select 'queue_to_queue', published.published_at, {{ milliseconds("published.published_at", "inbox.sent_at") }}
    from published
    inner join {{ ref("stg_inbox") }} as inbox on inbox.message_id = published.correlation_id
    where not (published.bar_status = 'final' and published.correlation_id = published.source_message_id)
)

select
    stage,
    ended_at,
    {{ utc_trunc("'hour'", "ended_at") }} as hour_start,
    latency_ms
from stages
where latency_ms is not null
