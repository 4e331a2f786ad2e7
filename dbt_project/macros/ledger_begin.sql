{# Monday (UTC, no time zone) of the oldest week in the ledger, or null if the ledger is empty. Older weeks are dropped
   after LEDGER_RETENTION_DAYS; mart rows built from them are kept. #}
{% macro ledger_begin() %}
(select date_trunc('week', min(committed_at) at time zone 'UTC') from {{ ref("stg_ledger") }})
{% endmacro %}
