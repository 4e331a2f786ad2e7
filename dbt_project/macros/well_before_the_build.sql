{# Whether a row was committed a minute before this build, so that all of its statements have seen it; serving commits
   further rows while the models are built. Batch scoring records no instant; its rows count as old. #}
{% macro is_well_before_the_build() %}
coalesce(committed_at, knowledge_time) < timestamptz '{{ run_started_at }}' - interval '1 minute'
{%- endmacro %}
