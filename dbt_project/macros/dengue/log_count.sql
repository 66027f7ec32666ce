{# A count on the scale on which epidemics grow: ln(1 + n); of nothing, 0. #}
{% macro log_count(count) -%}
    ln(1 + cast(coalesce({{ count }}, 0) as double))
{%- endmacro %}
