{#
  How an increment works. What was known at an instant stays so, and a table that holds all of it is brought on to a
  later instant by adding what became known in between: an incremental model selects what is since_held(),
  and reads back as far as its windows reach.

  control.held says until when each table holds everything, and each test held for its rows, and by which version of
  this SQL. An entry goes before its table is touched and comes back when all is well, so a kill leaves none. What has
  no entry that counts is made afresh, and tested as a whole: it is new, the SQL has changed, the clock was set back,
  what it is made from didn't hold as much, a test failed, or ingestion took the entry out because rows turn out to have
  been known otherwise. What nothing new has come to is not run at all: hindcast/tables/held.py.
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

{# A condition: the row is newer than those for which this test of a table has held. Any row is where that is afresh. #}
{% macro since_passed(instant) -%}
    {%- if entry_that_counts() and model.attached_node in graph.held_until -%}
    ({{ instant }} > timestamp '{{ entry_that_counts() }}' or {{ instant }} is null)
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}

{# The instant of this model's or test's own entry; none where it has none. #}
{% macro entry_that_counts() %}
    {{ return(graph.get("held_until", {}).get(model.unique_id)) }}
{% endmacro %}

{# Before a run: reads the entries that count to where the models find them, and takes out those of what is run now. #}
{% macro take_out_entries() %}
{%- if execute -%}
    {%- if env_var("HINDCAST_THREADS", "") -%}{%- do run_query("set threads = " ~ env_var("HINDCAST_THREADS")) -%}{%- endif -%}
    {%- do run_query(
        "create table if not exists " ~ control("held") ~ " (node varchar, sql_version varchar, known_until timestamp)"
    ) -%}
    {%- set known = run_query("select \"at\" from " ~ control("instants") ~ " where name = 'known_until'").rows[0][0] -%}
    {%- set entries = run_query(
        "select node, known_until from " ~ control("held") ~ " where sql_version = '" ~ sql_version() ~ "' "
        ~ "and sql_version <> '' and known_until <= timestamp '" ~ known ~ "'"
    ) -%}
    {%- set held, whole = {}, [] -%}
    {%- for entry in entries.rows -%}
        {%- do held.update({entry[0]: entry[1]}) -%}
        {%- if entry[1] == known and entry[0] not in selected_resources -%}{%- do whole.append(entry[0]) -%}{%- endif -%}
    {%- endfor -%}
    {%- do graph.update({"held_until": held, "whole": whole, "known_until": known}) -%}
    delete from {{ control("held") }} where node in ('{{ selected_resources | join("', '") }}')
{%- endif -%}
{% endmacro %}

{#
  After a run: an entry for all that was built or passed, if what it is made from holds as much. None where a test
  failed: the fault may be in all that is made from the table, and all is made afresh next time.
#}
{% macro put_in_entries(results) %}
{%- set faulty, held = [], [] -%}
{%- for result in results if execute and result.node.resource_type != "operation" -%}
    {%- if result.node.resource_type == "test" and result.status in ("fail", "error") -%}
        {%- do faulty.append(result.node.unique_id) -%}
    {%- elif result.status in ("success", "pass") and (result.node.resource_type == "unit_test" or made_of_whole(result.node)) -%}
        {%- do held.append(result.node.unique_id) -%}
        {%- do graph.whole.append(result.node.unique_id) -%}
    {%- endif -%}
{%- endfor -%}
{%- if faulty %}
    delete from {{ control("held") }}
{%- elif held %}
    insert into {{ control("held") }}
    select nodes.node, '{{ sql_version() }}', timestamp '{{ graph.known_until }}'
    from (values ('{{ held | join("'), ('") }}')) as nodes (node)
{%- endif -%}
{% endmacro %}

{# Whether all that a node is made from holds everything; of what has no table, what that is made from. #}
{% macro made_of_whole(node) %}
    {%- for id in node.depends_on.nodes if id in graph.nodes and id not in graph.whole -%}
        {%- set parent = graph.nodes[id] -%}
        {%- if parent.config.materialized != "ephemeral" or not made_of_whole(parent) -%}{{ return(false) }}{%- endif -%}
    {%- endfor -%}
    {{ return(true) }}
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
