{#
  The incremental strategy `history`: how a table of features gets further rows. It holds per key what was known at every
  instant, so nothing in it is changed.

  Rows of instants that it doesn't hold yet are added. After a correction, a key whose last row would be another by now
  gets that row once more, as known from the correction on; a key of which nothing is left gets a row of NULLs.

  The model's key is `meta.entity_keys` in its description; its instant is event_timestamp.
#}
{% macro get_incremental_history_sql(arguments) %}
    {%- set columns = arguments.dest_columns | map(attribute="name") | list -%}
    {%- set target, rows = arguments.target_relation, arguments.temp_relation -%}
    {%- set held, until = entry_that_counts(), known_until_of(model.unique_id) -%}
    {%- set corrections = corrections_since(model.unique_id) -%}
    {%- set listed = columns | join(", ") %}
    insert into {{ target }} ({{ listed }})
    select {{ listed }} from {{ rows }}
    where event_timestamp > timestamp '{{ held }}' and event_timestamp <= timestamp '{{ until }}'
    {%- if corrections %}
    {%- if corrections | length > 1 %}
        {{ exceptions.raise_compiler_error(model.name ~ " can't be updated past several corrections at once: materialise control.") }}
    {%- endif %}
    {%- set keys = model.config.meta.get("entity_keys") %}
    {%- if not keys %}
        {{ exceptions.raise_compiler_error(model.name ~ ": rows were corrected, and its description doesn't say which columns are its key: write config.meta.entity_keys.") }}
    {%- endif %}
    {%- set values = columns | reject("in", keys + ["event_timestamp"]) | list %}
    {%- for value in values %}
        {%- for constraint in model.columns.get(value, {}).get("constraints", []) if constraint.type == "not_null" %}
            {{ exceptions.raise_compiler_error(model.name ~ "." ~ value ~ ": rows were withdrawn, and a key of which nothing is left gets NULLs: take its constraint not_null out.") }}
        {%- endfor %}
    {%- endfor %}
    {%- set same = [] %}
    {%- for key in keys %}{% do same.append("before." ~ key ~ " is not distinct from now." ~ key) %}{% endfor %}

    union all

    select
        {%- for column in columns %}
        {% if column == "event_timestamp" %}timestamp '{{ corrections[0] }}'
        {%- elif column in keys %}coalesce(now.{{ column }}, before.{{ column }})
        {%- else %}now.{{ column }}
        {%- endif %} as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ last_rows(rows, keys, "event_timestamp <= timestamp '" ~ corrections[0] ~ "'") }} as now
    full outer join {{ last_rows(target, keys, "true") }} as before on {{ same | join(" and ") }}
    where
        coalesce(now.event_timestamp < timestamp '{{ corrections[0] }}', true)
        and (
            {%- for value in values %}
            now.{{ value }} is distinct from before.{{ value }}{{ " or" if not loop.last }}
            {%- endfor %}
            {%- if not values %} before.event_timestamp is null{% endif %}
        )
    {%- endif %}
{% endmacro %}

{# The last row per key. #}
{% macro last_rows(relation, keys, condition) -%}
    (
        select * from (
            select *, row_number() over (partition by {{ keys | join(", ") }} order by event_timestamp desc) as nth_last
            from {{ relation }}
            where {{ condition }}
        ) as numbered
        where nth_last = 1
    )
{%- endmacro %}
