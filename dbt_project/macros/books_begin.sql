{# Monday (UTC, no time zone) of the oldest week that the ledger still holds; null for an empty one. Older weeks are dropped
   whole after LEDGER_RETENTION_DAYS: what a mart has of them was built while they were there, and stays. #}
{% macro books_begin() %}
(select date_trunc('week', min(committed_at) at time zone 'UTC') from {{ ref("stg_ledger") }})
{% endmacro %}
