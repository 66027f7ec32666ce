{#
  What holds for every row of a table: its key (one column or several) is there in full and the only one, it was known
  no later than the lake knows anything, and no condition is broken; NULL doesn't break one. One test per table, as
  each costs as much as several conditions do. It finds one row per thing that is broken, with how many rows break it
  and the key of one of them.

  since: the column by which a row of a table that is brought on is new. Rows that passed before aren't looked at again,
  but for keys that come twice. Without it every row is looked at every time.
#}
{% test rows_hold(model, key, known_at=[], conditions=[], since=none) %}
{%- set rules = [] -%}
{%- for column in key -%}{%- do rules.append(column ~ " is not null") -%}{%- endfor -%}
{%- do rules.extend(conditions) -%}
{%- set is_new = since_passed(since) if since else "true" -%}
{#- A key's column may have any name: those of this test's own are none that a table would have. -#}
{%- set keys, example = [], [] -%}
{%- for column in key -%}
    {%- do keys.append(column ~ " as broken_key_" ~ loop.index) -%}
    {%- do example.append("'" ~ column ~ " ' || coalesce(cast(broken.broken_key_" ~ loop.index ~ " as varchar), 'null')") -%}
{%- endfor -%}
select
    broken.broken_rule as rule,
    count(*) as broken_by,
    min({{ example | join(" || ', ' || ") }}) as example
from (
    select
        {{ keys | join(", ") }},
        case
            {%- for rule in rules %}
            when not ({{ rule }}) then '{{ rule | replace("'", "''") }}'
            {%- endfor %}
            {%- for column in known_at %}
            when {{ column }} > {{ newest_known() }} then '{{ column }} is known'
            {%- endfor %}
        end as broken_rule
    from {{ model }}
    where {{ is_new }}

    union all

    select {{ keys | join(", ") }}, '{{ key | join(", ") }} is the key' as broken_rule
    from {{ model }}
    where {{ is_new if since in key or is_new == "true" else "(" ~ key | join(", ") ~ ") in (select " ~ key | join(", ") ~ " from " ~ model ~ " where " ~ is_new ~ ")" }}
    group by {{ key | join(", ") }}
    having count(*) > 1
) as broken
where broken.broken_rule is not null
group by broken.broken_rule
{% endtest %}
