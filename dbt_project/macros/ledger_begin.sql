{# Monday (UTC, no time zone) of the oldest week in the ledger, or null if the ledger is empty. Whole older weeks are dropped
   after LEDGER_RETENTION_DAYS; the rows that a mart has built from them stay. #}
{% macro ledger_begin() %}
(select date_trunc('week', min(committed_at) at time zone 'UTC') from {{ ref("stg_ledger") }})
{% endmacro %}
