{#
  The incremental strategy `history`: how a table of features gets further rows. It holds per key what was known at every
  instant, so nothing in it is changed.

  Rows of instants that it doesn't hold yet are added. After a correction, a key whose last row would be another by now
  gets that row once more, as known from the correction on; a key of which nothing is left gets a row of NULLs.

  The model's key is `meta.entity_keys` in its description; its instant is event_timestamp.
#}
{% macro get_incremental_history_sql(arguments) %}
    {%- set columns = arguments.dest_columns | map(attribute="name") | list -%}
    {%- set keys = model.config.meta.get("entity_keys") -%}
    {%- set target, rows = arguments.target_relation, arguments.temp_relation -%}
    {%- set held, until = entry_that_counts(), known_until_of(model.unique_id) -%}
    {%- set corrections = corrections_since(model.unique_id) -%}
    {%- set listed = quoted(columns) | join(", ") %}
    insert into {{ target }} ({{ listed }})
    select {{ listed }} from {{ rows }}
    where event_timestamp > timestamp '{{ held }}' and event_timestamp <= timestamp '{{ until }}'
    {%- if corrections %}
    {%- if corrections | length > 1 or not keys %}
        {{ exceptions.raise_compiler_error(model.name ~ " can't be updated past corrections by itself: hindcast.tables.catch_up does it, step by step.") }}
    {%- endif %}
    {%- set values = columns | reject("in", keys + ["event_timestamp"]) | list %}
    {%- set same = [] %}
    {%- for key in quoted(keys) %}{% do same.append("before." ~ key ~ " is not distinct from now." ~ key) %}{% endfor %}

    union all

    select
        {%- for column in columns %}
        {% if column == "event_timestamp" %}timestamp '{{ corrections[0] }}'
        {%- elif column in keys %}coalesce(now.{{ adapter.quote(column) }}, before.{{ adapter.quote(column) }})
        {%- else %}now.{{ adapter.quote(column) }}
        {%- endif %} as {{ adapter.quote(column) }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ last_rows(rows, keys, "event_timestamp <= timestamp '" ~ corrections[0] ~ "'") }} as now
    full outer join {{ last_rows(target, keys, "true") }} as before on {{ same | join(" and ") }}
    where
        coalesce(now.event_timestamp < timestamp '{{ corrections[0] }}', true)
        and (
            {%- for value in quoted(values) %}
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
            select *, row_number() over (partition by {{ quoted(keys) | join(", ") }} order by event_timestamp desc) as nth_last
            from {{ relation }}
            where {{ condition }}
        ) as numbered
        where nth_last = 1
    )
{%- endmacro %}

{# Names as identifiers. #}
{% macro quoted(names) %}
    {%- set found = [] -%}
    {%- for name in names -%}{%- do found.append(adapter.quote(name)) -%}{%- endfor -%}
    {{ return(found) }}
{% endmacro %}
