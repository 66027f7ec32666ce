{# Of a sum that runs along a grid (window `earlier`): the part that came within the last points. #}
{% macro within_window(running_sum, points) -%}
    ({{ running_sum }} - lag({{ running_sum }}, {{ points }}, 0) over earlier)
{%- endmacro %}

{# The share of late flights, drawn towards the base rate where flights are few. #}
{% macro smoothed_late_rate(late_flights, flights) -%}
    cast({{ late_flights }} + {{ var("base_rate") * var("base_weight") }} as double)
    / cast({{ flights }} + {{ var("base_weight") }} as double)
{%- endmacro %}
