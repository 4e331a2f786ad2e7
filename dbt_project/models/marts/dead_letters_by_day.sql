select
    received_day::date as day,
    source::text as source,
    code::text as code,
    count(*)::bigint as dead_letters,
    count(replayed_at)::bigint as replayed,
    (array_agg(reason order by received_at desc, message_id))[1]::text as last_reason
from {{ ref("stg_dead_letters") }}
group by received_day, source, code
