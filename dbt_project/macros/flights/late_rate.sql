{# The share of late flights, drawn towards the base rate where flights are few: a value of known_aggregates. #}
{% macro late_rate(prefix, windows) %}
    {{ return({
        "name": prefix ~ "_late_rate", "aggregate": "smoothed", "of": "is_late", "windows": windows,
        "towards": var("base_rate"), "weight": var("base_weight"),
    }) }}
{% endmacro %}
