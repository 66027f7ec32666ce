{# The first Monday, 00:00 UTC, that is not before the instant: 08:00 in Taiwan, when the week's question is asked. #}
{% macro next_monday(instant) -%}
    date_trunc('week', {{ instant }} + interval '7 days' - interval '1 microsecond')
{%- endmacro %}
