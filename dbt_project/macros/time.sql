{% macro utc_day(instant) %}({{ instant }} at time zone 'UTC')::date{% endmacro %}

{% macro utc_trunc(granularity, instant) %}
(date_trunc({{ granularity }}, {{ instant }} at time zone 'UTC') at time zone 'UTC')
{%- endmacro %}

{% macro milliseconds(later, earlier) %}(extract(epoch from {{ later }} - {{ earlier }}) * 1000)::double precision{% endmacro %}
