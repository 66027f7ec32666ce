{#
  Aggregates over what was known, per key and instant T: of the rows that became known in (T - window, T].

  rows: SQL of a relation, one row per thing that became known, e.g. ref(…) or "(select … )".
  keys: its key columns; a row in which one is NULL is left out.
  values: a list of {"name", "aggregate", "of", "windows"}. Aggregates: count (of rows, or of the values that `of` has),
  sum, mean, rate (the mean of 0 and 1), smoothed (a mean that is drawn `towards` a value with the `weight` of so many
  rows), min, max, last (of several at one instant the largest). `of` is a column or an expression. Windows:
  {name: minutes, or none for everything so far}. Each gives a column <name>_<window>.
  step: minutes of a grid; every key gets a row at each of its points, from the first at which something is known of it.
  Left out: a row at each instant at which a value changes, that is where a row becomes known or leaves a window.
  known_at: column of `rows`, UTC.

  Sums are of decimals with nine places: adding in another order, as an increment does, gives the same to the last bit.
#}
{% macro known_aggregates(rows, keys, values, step=none, known_at="known_at") %}
{%- set key_columns = keys | join(", ") -%}
{%- set windows = {} -%}
{%- for value in values -%}{%- do windows.update(value.windows) -%}{%- endfor -%}
{%- set finite = windows.values() | reject("none") | list -%}
{%- set all_time = windows.values() | select("none") | list -%}
with known_rows as (
    select
        *,
        {{ next_grid_point(known_at, step) if step else known_at }} as event_timestamp
    from {{ rows }} as given_rows
    where
        {{ known_at }} is not null
        {%- for key in keys %}
        and {{ key }} is not null
        {%- endfor %}
        {%- if not all_time %}
        and {{ since_held(known_at, days_before=(finite | max + 1439) // 1440 + 1) }}
        {%- endif %}
),

news as (
    select
        {{ key_columns }},
        event_timestamp
        {%- for value in values %}
        {%- set of, n = value.of, loop.index %},
        count({{ of if of else "*" }}) as count_{{ n }}
        {%- if value.aggregate in ("sum", "mean", "rate", "smoothed") %},
        sum(cast({{ of }} as decimal(38, 9))) as sum_{{ n }}
        {%- elif value.aggregate in ("min", "max") %},
        {{ value.aggregate }}({{ of }}) as value_{{ n }}
        {%- elif value.aggregate == "last" %},
        {{ newest_value(of, known_at) }} as value_{{ n }}
        {%- endif %}
        {%- endfor %}
    from known_rows
    group by {{ key_columns }}, event_timestamp
),

points as (
    {%- if step %}
    select
        {{ key_columns }},
        {{ grid_points("first_known_at", known_until(), step) }} as event_timestamp
    from (
        select
            {{ key_columns }},
            min(event_timestamp) as first_known_at
        from {{ grid_starts("news", keys, step) }}
        group by {{ key_columns }}
    ) as first_news
    {%- else %}
    select {{ key_columns }}, event_timestamp from news
    {%- for minutes in finite | unique %}
    union
    select {{ key_columns }}, {{ add_minutes("event_timestamp", minutes) }} as event_timestamp from news
    {%- endfor %}
    {%- endif %}
),

aggregated as (
    select
        {{ key_columns }},
        event_timestamp
        {%- for value in values %}
        {%- set n = loop.index %}
        {%- for window in value.windows %},
        {{ known_aggregate(value, n, "over window_" ~ window) }} as {{ value.name }}_{{ window }}
        {%- endfor %}
        {%- endfor %}
    from points
    left join news using ({{ key_columns }}, event_timestamp)
    window
        {%- for window, minutes in windows.items() %}
        window_{{ window }} as (
            partition by {{ key_columns }} order by event_timestamp
            {{ preceding_minutes(minutes) }}
        ){{ "," if not loop.last }}
        {%- endfor %}
)

select * from aggregated
where {{ since_held("event_timestamp") }} and event_timestamp <= {{ known_until() }}
{% endmacro %}

{# One aggregate of what `news` holds per instant, over a window. #}
{% macro known_aggregate(value, n, over) -%}
    {%- set kind = value.aggregate -%}
    {%- set rows = "cast(coalesce(sum(count_" ~ n ~ ") " ~ over ~ ", 0) as bigint)" -%}
    {%- set total = "cast(coalesce(sum(sum_" ~ n ~ ") " ~ over ~ ", 0) as double)" -%}
    {%- if kind == "count" -%}{{ rows }}
    {%- elif kind == "sum" -%}{{ total }}
    {%- elif kind in ("mean", "rate") -%}{{ total }} / nullif({{ rows }}, 0)
    {%- elif kind == "smoothed" -%}({{ total }} + {{ value.towards * value.weight }}) / ({{ rows }} + {{ value.weight }})
    {%- elif kind in ("min", "max") -%}cast({{ kind }}(value_{{ n }}) {{ over }} as double)
    {%- elif kind == "last" -%}cast(last_value(value_{{ n }} ignore nulls) {{ over }} as double)
    {%- else -%}{{ exceptions.raise_compiler_error("known_aggregates: there is no aggregate " ~ kind) }}
    {%- endif -%}
{%- endmacro %}
