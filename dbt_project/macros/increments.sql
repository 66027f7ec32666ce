{#
  How a table is updated instead of rebuilt. What was known at an instant stays so, and a table that holds all of it is
  updated to a later instant by adding what became known in between: an incremental model selects what is
  since_held(), and reads back as far as its windows reach.

  There are two kinds of tables. A *state* (cleaned, labeled) holds what is known now; when something that had been known
  turns out otherwise (a correction, a withdrawal), it is rebuilt. A *history* (features: the incremental strategy
  `history`) holds what was known at every instant. Nothing in it is ever changed: a correction adds rows that are known
  from its arrival. So a history is built in steps, each of which ends just before or at a correction
  (hindcast/tables/catch_up.py).

  control.built_until says until when each table holds everything, and each test held for its rows, and by which version of
  this SQL. An entry goes before its table is touched and comes back when all is well, so a kill leaves none. What has
  no entry that counts is rebuilt, and tested as a whole: it is new, the SQL has changed, the clock was set back, what it
  is made from didn't hold as much, a test failed, or ingestion took the entry out because something is known since
  earlier. What is up to date is not run at all: hindcast/tables/freshness.py.
#}

{# A condition: the instant is newer than what the table holds, less some days. Any instant is where all is computed. #}
{% macro since_held(instant, days_before=0) -%}
    {%- if adds_to_table() -%}
    {{ instant }} > timestamp '{{ entry_that_counts() - modules.datetime.timedelta(days=days_before) }}'
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}

{# Whether only what is new needs to be computed. Not after a correction; a unit test has no table. #}
{% macro adds_to_table() %}{{ return(this and is_incremental() and not corrections_since(model.unique_id)) }}{% endmacro %}

{# dbt's question before it builds an incremental model. #}
{% macro should_full_refresh() %}
    {%- set is_history = config.get("incremental_strategy") == "history" -%}
    {%- set corrections = corrections_since(model.unique_id) -%}
    {%- if is_history and corrections and entry_that_counts() is none -%}
        {{ exceptions.raise_compiler_error(model.name ~ " can't be rebuilt at once: rows it is made from were corrected, and it holds what was known before, too. hindcast.tables.catch_up rebuilds it step by step.") }}
    {%- endif -%}
    {{ return(dbt.should_full_refresh() or entry_that_counts() is none or (corrections and not is_history)) }}
{% endmacro %}

{# A condition: the row is newer than those for which this test of a table has held. Any row is where it was rebuilt. #}
{% macro since_passed(instant) -%}
    {%- if entry_that_counts() and model.attached_node in graph.built_until and not corrections_since(model.unique_id) -%}
    ({{ instant }} > timestamp '{{ entry_that_counts() }}' or {{ instant }} is null)
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}

{# The instant of this model's or test's own entry; none where it has none. #}
{% macro entry_that_counts() %}
    {{ return(graph.get("built_until", {}).get(model.unique_id)) }}
{% endmacro %}

{# The instants of corrections since a node's entry, of what it is made from; all of them where it has no entry. #}
{% macro corrections_since(unique_id) %}
    {%- set held, found = graph.get("built_until", {}).get(unique_id), [] -%}
    {%- for table, instant in graph.get("corrections", []) if table in raw_tables_of(unique_id) -%}
        {%- if (held is none or instant > held) and instant <= known_until_of(unique_id) -%}{%- do found.append(instant) -%}{%- endif -%}
    {%- endfor -%}
    {{ return(found | unique | sort) }}
{% endmacro %}

{# As known_until(), for any node and as a value; the beginning of time for what is made from no raw table. #}
{% macro known_until_of(unique_id) %}
    {%- set instants = [] -%}
    {%- for table in raw_tables_of(unique_id) if "raw." ~ table in graph.instants -%}
        {%- do instants.append(graph.instants["raw." ~ table]) -%}
    {%- endfor -%}
    {%- if "cap" in graph.instants -%}{%- do instants.append(graph.instants["cap"]) -%}{%- endif -%}
    {{ return(instants | min if raw_tables_of(unique_id) and instants else modules.datetime.datetime(1, 1, 1)) }}
{% endmacro %}

{# Before a run: reads the entries that count to where the models find them, and takes out those of what is run now. #}
{% macro take_out_entries() %}
{%- if execute -%}
    {%- if env_var("HINDCAST_THREADS", "") -%}{%- do run_query("set threads = " ~ env_var("HINDCAST_THREADS")) -%}{%- endif -%}
    {%- do run_query(
        "create table if not exists " ~ control("built_until") ~ " (node varchar, sql_version varchar, known_until timestamp)"
    ) -%}
    {%- set instants, held, whole = {}, {}, [] -%}
    {%- for row in run_query("select name, \"at\" from " ~ control("instants")).rows -%}
        {%- do instants.update({row[0]: row[1]}) -%}
    {%- endfor -%}
    {%- set corrections = run_query("select table_name, \"at\" from " ~ control("corrections")).rows -%}
    {%- do graph.update({"instants": instants, "corrections": corrections | map("list") | list}) -%}
    {%- set entries = run_query("select node, sql_version, max(known_until) from " ~ control("built_until") ~ " group by all") -%}
    {%- for node, version, until in entries.rows if version and version == sql_versions().get(node) and until <= known_until_of(node) -%}
        {%- do held.update({node: until}) -%}
        {%- if until == known_until_of(node) and node not in selected_resources -%}{%- do whole.append(node) -%}{%- endif -%}
    {%- endfor -%}
    {%- do graph.update({"built_until": held, "whole": whole}) -%}
    delete from {{ control("built_until") }} where node in ('{{ selected_resources | join("', '") }}')
{%- endif -%}
{% endmacro %}

{#
  After a run: an entry for all that was built or passed, if what it is made from holds as much. None in a domain of
  which a test failed: the fault may be in all that is made from the table, and all is rebuilt next time.
#}
{% macro put_in_entries(results) %}
{%- set faulty, held = [], [] -%}
{%- for result in results if execute and result.node.resource_type != "operation" -%}
    {%- if result.node.resource_type == "test" and result.status in ("fail", "error") -%}
        {%- do faulty.append(result.node.fqn[1]) -%}
    {%- elif result.status in ("success", "pass") and (result.node.resource_type == "unit_test" or made_of_whole(result.node)) -%}
        {%- do held.append(result.node.unique_id) -%}
        {%- do graph.whole.append(result.node.unique_id) -%}
    {%- endif -%}
{%- endfor -%}
{%- if faulty %}
    {%- set of_domain = [] -%}
    {%- for node in graph.nodes.values() if node.fqn[1] in faulty -%}{%- do of_domain.append(node.unique_id) -%}{%- endfor %}
    delete from {{ control("built_until") }} where node in ('{{ of_domain | join("', '") }}')
{%- elif held %}
    insert into {{ control("built_until") }}
    values
    {%- for node in held %}
    ('{{ node }}', '{{ sql_versions().get(node, "") }}', timestamp '{{ known_until_of(node) }}'){{ "," if not loop.last }}
    {%- endfor -%}
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
{# Per node a version of its SQL and of all that it is made from: hindcast/tables/transform.py. #}
{% macro sql_versions() %}{{ return(fromjson(env_var("HINDCAST_SQL_VERSIONS", "{}"))) }}{% endmacro %}

{#
  Per key the instants from which its grid is continued: those of its news and, as it may have had none lately, its last
  point in the table that is updated.
#}
{% macro grid_starts(news, keys, step) -%}
    (
        select {{ keys | join(", ") }}, event_timestamp from {{ news }}
        {%- if adds_to_table() %}
        union all
        select {{ keys | join(", ") }}, event_timestamp from {{ this }}
        where {{ since_held(add_minutes("event_timestamp", step)) }}
        {%- endif %}
    ) as starts
{%- endmacro %}
