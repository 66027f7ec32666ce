{# What of the raw tables is known, and until when. #}

{#
  In place of dbt's own: of a raw table, the rows that were known at the instant until which it has been ingested. The
  table itself keeps every version that was ever delivered; ingestion makes the view (hindcast/tables/versions.py).
#}
{% macro source(source_name, table_name) %}
    {%- set relation = builtins.source(source_name, table_name) -%}
    {{ return(relation.incorporate(path={"schema": "known"}) if relation.schema == "raw" else relation) }}
{% endmacro %}

{#
  The instant until which all is known of what this model is made from: the earliest among its raw tables. What one of
  them hasn't told yet may still have happened. Where none is known by name, as in a unit test, known_until.
#}
{% macro known_until() -%}
    {%- set tables = raw_tables_of(model.unique_id) if execute else [] -%}
    (
        select coalesce(
            min(case when instants.name in ({% for table in tables %}'raw.{{ table }}', {% endfor %}'cap') then instants."at" end),
            min(case when instants.name = 'known_until' then instants."at" end)
        )
        from {{ source("control", "instants") }} as instants
    )
{%- endmacro %}

{# The newest instant at which anything is known of what this model is made from. #}
{% macro newest_known() -%}
    {%- set tables = raw_tables_of(model.unique_id) if execute else [] -%}
    (
        select coalesce(
            max(case when instants.name in ({% for table in tables %}'raw.{{ table }}', {% endfor %}'') then instants."at" end),
            max(instants."at")
        )
        from {{ source("control", "instants") }} as instants
    )
{%- endmacro %}

{# The instant that a problem's split is made as of. #}
{% macro as_of(problem) -%}
    (
        select max(windows.as_of)
        from {{ source("control", "windows") }} as windows
        where windows.problem = '{{ problem }}'
    )
{%- endmacro %}

{# The raw tables that a node is made from, directly or not. #}
{% macro raw_tables_of(unique_id) %}
    {%- if "nodes" not in graph -%}{{ return([]) }}{%- endif -%} {#- in a unit test -#}
    {%- set found = graph.setdefault("raw_tables", {}) -%}
    {%- if unique_id not in found -%}
        {%- set tables = [] -%}
        {%- set node = graph.nodes.get(unique_id, model if unique_id == model.unique_id else none) -%}
        {%- for parent in (node.depends_on.nodes if node else []) -%}
            {%- if parent in graph.sources -%}
                {%- if graph.sources[parent].schema == "raw" -%}{%- do tables.append(graph.sources[parent].identifier) -%}{%- endif -%}
            {%- else -%}
                {%- do tables.extend(raw_tables_of(parent)) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- do found.update({unique_id: tables | unique | sort}) -%}
    {%- endif -%}
    {{ return(found[unique_id]) }}
{% endmacro %}

{#
  The rows of a labeled table as they were known: the label's columns at one instant, all others at the row's own
  prediction time. Rows that a correction replaced are kept beside the table: hindcast/tables/labels.py.

  labels: the label's columns; prediction_time: a column; as_of: SQL of an instant.
#}
{% macro as_known_then(labeled, key, labels, prediction_time, as_of) %}
    {%- set superseded = adapter.get_relation(labeled.database, labeled.schema, labeled.identifier ~ "_superseded") if execute and labeled.schema -%}
    {%- if not superseded %}
    select * from {{ labeled }}
    {%- else %}
    {%- set columns = quoted(adapter.get_columns_in_relation(labeled) | map(attribute="name")) %}
    {%- set of_label = quoted(labels + [prediction_time]) %}
    {%- set key, asked = adapter.quote(key), adapter.quote(prediction_time) %}
    with versions as (
        select
            {{ columns | join(", ") }},
            superseded_at as known_to,
            coalesce(
                lag(superseded_at) over (partition by superseded_key order by superseded_at), timestamp '0001-01-01'
            ) as known_from
        from (
            select {{ columns | join(", ") }}, superseded_at, superseded_key from {{ superseded }}
            union all
            select {{ columns | join(", ") }}, timestamp '9999-12-31', {{ key }} from {{ labeled }}
            where {{ key }} in (select superseded_key from {{ superseded }})
        ) as each_version
    )

    select {{ columns | join(", ") }} from {{ labeled }}
    where {{ key }} not in (select superseded_key from {{ superseded }})

    union all

    select
        {%- for column in columns %}
        {{ "labels" if column in of_label else "attributes" }}.{{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from versions as labels
    inner join versions as attributes
        on
            labels.{{ key }} = attributes.{{ key }}
            and labels.{{ asked }} >= attributes.known_from
            and labels.{{ asked }} < attributes.known_to
    where {{ as_of }} >= labels.known_from and {{ as_of }} < labels.known_to
    {%- endif %}
{% endmacro %}
