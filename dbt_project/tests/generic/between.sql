{% test between(model, column_name, lowest=0, highest=1) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} not between {{ lowest }} and {{ highest }}
{% endtest %}
