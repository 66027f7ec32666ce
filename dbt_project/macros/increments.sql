{#
  How an increment works. What was known at an instant stays so, and a table that holds all of it is brought on to a
  later instant by adding what became known in between: an incremental model selects what is since_held(),
  and reads back as far as its windows reach.

  control.built says until when each such table holds everything, and which version of this SQL made it. That is
  written in the table's own transaction, so a kill comes before both or after both. A table without an entry that
  counts is made afresh: it is new, the SQL has changed, the clock was set back, a table that it was made from didn't
  hold as much, or ingestion took the entry out because rows turn out to have been known otherwise.
#}

{# A condition: the instant is newer than what the table holds, less some days. Any instant is where it's made afresh. #}
{% macro since_held(instant, days_before=0) -%}
    {%- if brought_on() -%}
    {{ instant }} > timestamp '{{ entry_that_counts() - modules.datetime.timedelta(days=days_before) }}'
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}

{# Whether the table is brought on rather than made afresh. A unit test has no table. #}
{% macro brought_on() %}{{ return(this and is_incremental()) }}{% endmacro %}

{# dbt's question before it builds an incremental model. #}
{% macro should_full_refresh() %}
    {{ return(dbt.should_full_refresh() or entry_that_counts() is none) }}
{% endmacro %}

{% macro entry_that_counts() %}
    {{ return(graph.get("held_until", {}).get(this.schema ~ "." ~ this.name)) }}
{% endmacro %}

{# Before a run: reads the entries that count to where the models find them, and takes out those of what is built now. #}
{% macro take_out_entries() %}
{%- set tables = [] -%}
{%- for id in selected_resources if execute and incremental_table(id) -%}
    {%- do tables.append(incremental_table(id)) -%}
{%- endfor -%}
{%- if tables -%}
    {%- do run_query(
        "create table if not exists " ~ control("built") ~ " (table_name varchar, sql_version varchar, known_until timestamp)"
    ) -%}
    {%- set entries = run_query(
        "select built.table_name, built.known_until, instants.\"at\" from " ~ control("built") ~ " as built, "
        ~ control("instants") ~ " as instants where built.sql_version = '" ~ sql_version()
        ~ "' and instants.name = 'known_until' and built.known_until <= instants.\"at\""
    ) -%}
    {%- set held, whole = {}, [] -%}
    {%- for entry in entries.rows -%}
        {%- do held.update({entry[0]: entry[1]}) -%}
        {%- if entry[1] == entry[2] and entry[0] not in tables -%}{%- do whole.append(entry[0]) -%}{%- endif -%}
    {%- endfor -%}
    {%- do graph.update({"held_until": held, "whole": whole}) -%}
    delete from {{ control("built") }} where table_name in ('{{ tables | join("', '") }}')
{%- endif -%}
{% endmacro %}

{# After a run: an entry for each table that was built and whose tests passed, if what it is made from holds as much. #}
{% macro put_in_entries(results) %}
{%- set faulty, built = [], [] -%}
{%- for result in results if result.status in ("fail", "error") -%}
    {%- do faulty.extend(result.node.depends_on.nodes) -%}
{%- endfor -%}
{%- for result in results if execute and result.status == "success" and incremental_table(result.node.unique_id) -%}
    {%- set older = [] -%}
    {%- for id in result.node.depends_on.nodes if incremental_table(id) and incremental_table(id) not in graph.whole -%}
        {%- do older.append(id) -%}
    {%- endfor -%}
    {%- if not older and result.node.unique_id not in faulty -%}
        {%- do built.append(incremental_table(result.node.unique_id)) -%}
        {%- do graph.whole.append(incremental_table(result.node.unique_id)) -%}
    {%- endif -%}
{%- endfor -%}
{%- if built -%}
    insert into {{ control("built") }}
    select tables.table_name, '{{ sql_version() }}', instants."at"
    from (values ('{{ built | join("'), ('") }}')) as tables (table_name)
    cross join {{ control("instants") }} as instants
    where instants.name = 'known_until'
{%- endif -%}
{% endmacro %}

{# The table that an incremental model makes; none for any other node. #}
{% macro incremental_table(id) %}
    {%- set node = graph.nodes[id] -%}
    {{ return(node.schema ~ "." ~ node.name if node and node.config.materialized == "incremental" else none) }}
{% endmacro %}

{% macro control(table) %}{{ return(target.database ~ ".control." ~ table) }}{% endmacro %}
{% macro sql_version() %}{{ return(env_var("HINDCAST_SQL_VERSION", "")) }}{% endmacro %}

{#
  Instants at which something is first heard of a key, on a grid that goes on for ever: its news' and, as it may not
  have been heard of lately, its last point in the table that is brought on.
#}
{% macro grid_starts(news, keys, step) -%}
    (
        select {{ keys | join(", ") }}, event_timestamp from {{ news }}
        {%- if brought_on() %}
        union all
        select {{ keys | join(", ") }}, event_timestamp from {{ this }}
        where {{ since_held(add_minutes("event_timestamp", step)) }}
        {%- endif %}
    ) as starts
{%- endmacro %}
