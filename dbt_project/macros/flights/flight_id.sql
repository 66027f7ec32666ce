{# A scheduled flight's name: its local date, origin, carrier and number tell it from every other. #}
{% macro flight_id(flight_date, origin, carrier, flight_number) -%}
    concat_ws('|', cast({{ flight_date }} as {{ type_string() }}), {{ origin }}, {{ carrier }}, cast({{ flight_number }} as {{ type_string() }}))
{%- endmacro %}
