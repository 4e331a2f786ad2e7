select
    message_id,
    queue_url,
    source,
    code,
    reason,
    received_at,
    {{ utc_day("received_at") }} as received_day,
    replayed_at
from {{ source("ops", "dead_letters") }}
