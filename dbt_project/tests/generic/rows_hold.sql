{#
  What holds for every row of a table: its key (one column or several) is there in full and the only one, it was known
  no later than the lake knows anything, and no condition is broken; NULL doesn't break one. One test per table, as
  each costs as much as several conditions do. It finds one row per thing that is broken, with how many rows break it.
#}
{% test rows_hold(model, key, known_at=[], conditions=[]) %}
{%- set rules = [] -%}
{%- for column in key -%}{%- do rules.append(column ~ " is not null") -%}{%- endfor -%}
{%- do rules.extend(conditions) -%}
select
    broken.rule,
    count(*) as broken_by
from (
    select
        case
            {%- for rule in rules %}
            when not ({{ rule }}) then '{{ rule | replace("'", "''") }}'
            {%- endfor %}
            {%- for column in known_at %}
            when {{ column }} > {{ known_until() }} then '{{ column }} is known'
            {%- endfor %}
        end as rule
    from {{ model }}

    union all

    select '{{ key | join(", ") }} is the key' as rule
    from {{ model }}
    group by {{ key | join(", ") }}
    having count(*) > 1
) as broken
where broken.rule is not null
group by broken.rule
{% endtest %}
