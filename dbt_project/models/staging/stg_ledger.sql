select
    message_id,
    queue_url,
    outcome,
    reason,
    committed_at,
    {{ utc_day("committed_at") }} as committed_day,
    run_id
from {{ source("ops", "ledger") }}
