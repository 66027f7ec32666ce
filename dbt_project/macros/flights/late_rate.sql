{# The share of late flights, drawn towards the base rate where flights are few: a value of known_aggregates. #}
{% macro late_rate(prefix, windows) %}
    {{ return({
        "name": prefix ~ "_late_rate", "aggregate": "smoothed", "of": "is_late", "windows": windows,
        "towards": var("base_rate"), "weight": var("base_weight"),
    }) }}
{% endmacro %}

{# The same of two sums. #}
{% macro smoothed_late_rate(late_flights, flights) -%}
    cast({{ late_flights }} + {{ var("base_rate") * var("base_weight") }} as double)
    / cast({{ flights }} + {{ var("base_weight") }} as double)
{%- endmacro %}

{# Of a sum that runs along a grid (window `earlier`): the part that came within the last points. #}
{% macro within_window(running_sum, points) -%}
    ({{ running_sum }} - lag({{ running_sum }}, {{ points }}, 0) over earlier)
{%- endmacro %}
