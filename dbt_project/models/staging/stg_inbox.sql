select
    message_id,
    queue_url,
    symbol,
    event_time,
    sent_at,
    received_at,
    receive_count,
    run_id
from {{ source("ops", "inbox") }}
