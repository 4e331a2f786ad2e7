select
    id as ingestion_run_id,
    source,
    started_at,
    finished_at,
    {{ utc_day("started_at") }} as started_day,
    rows_in,
    rows_landed,
    rows_dead,
    rows_duplicate,
    -- `surveillance ingest` also lands bars from Yahoo, but is not a fallback.
    coalesce((detail ->> 'fallback')::boolean, false) as is_fallback
from {{ source("surveillance", "ingestion_runs") }}
