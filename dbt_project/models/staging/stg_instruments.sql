select
    symbol,
    name as instrument_name,
    asset_class,
    calendar,
    currency,
    active as is_active,
    added_at,
    source
from {{ source("surveillance", "instruments") }}
