{# Rows that claim to have been known later than the lake knows anything. #}
{% test known_in_time(model, column_name) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} > {{ known_until() }}
{% endtest %}
