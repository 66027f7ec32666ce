{# How a rule is reported: a row carries the names of the rules that touched it, and the counts come from there. #}

{# The names of those rules whose condition (a boolean column) holds for the row. #}
{% macro rules_touched(rules) %}{{ return(adapter.dispatch("rules_touched")(rules)) }}{% endmacro %}

{% macro default__rules_touched(rules) %}
    array_compact(array(
        {%- for rule in rules %}case when {{ rule }} then '{{ rule }}' end{{ ", " if not loop.last }}{% endfor -%}
    ))
{% endmacro %}

{% macro duckdb__rules_touched(rules) -%}
    list_filter([
        {%- for rule in rules %}case when {{ rule }} then '{{ rule }}' end{{ ", " if not loop.last }}{% endfor -%}
    ], lambda rule: rule is not null)
{%- endmacro %}

{# Per rule, how many rows of a model it touched. #}
{% macro rule_counts(model) %}{{ return(adapter.dispatch("rule_counts")(model)) }}{% endmacro %}

{% macro default__rule_counts(model) %}
    select touched.rule, count(*) as rows_touched
    from {{ model }} lateral view explode(rules) touched as rule
    group by touched.rule
{% endmacro %}

{% macro duckdb__rule_counts(model) -%}
    select touched.rule, count(*) as rows_touched
    from (select unnest(rules) as rule from {{ model }}) as touched
    group by touched.rule
{%- endmacro %}
