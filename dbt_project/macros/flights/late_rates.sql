{#
  Rates over what was known, per key and grid point T: late rates of the outcomes that became known in
  (T - window, T], and, where asked for, means over the flights that departed or arrived in it. Everything
  is summed up along the grid once, and a window is the difference of two sums: the cost grows with the grid, not
  with the windows. A key's grid starts when something is first known of it.

  keys: columns of a flight; prefix: of the features' names; step: of the grid, minutes (windows are multiples);
  windows: name -> minutes; delays: known_at (a column of int_flights) and means: name -> minutes (over its columns) and
  windows; or none.
#}
{% macro late_rates(keys, prefix, step, windows, delays=none) %}
{%- set key_columns = keys | join(", ") -%}
{%- set means = delays.means if delays else {} -%}
{%- set lengths = windows.values() | list -%}
{%- for mean in means.values() -%}{%- do lengths.extend(mean.windows.values()) -%}{%- endfor -%}
{%- set longest = lengths | max -%}
{#- Nothing new is heard of a flight two days after its schedule: a test of stg_flights holds that. -#}
{%- set days = (longest + 1439) // 1440 + 2 -%}
with news as (
    select
        {{ key_columns }},
        outcome_known_at as known_at,
        1 as flights,
        is_late as late_flights,
        0 as delays
        {%- for name in means %},
        0 as {{ name }}
        {%- endfor %}
    from {{ ref("int_flight_outcomes") }}
    where is_late is not null and {{ since_held("scheduled_departure_at", days_before=days) }}
    {%- if delays %}

    union all

    select
        {{ key_columns }},
        {{ delays.known_at }} as known_at,
        0 as flights,
        0 as late_flights,
        1 as delays
        {%- for name, mean in means.items() %},
        {{ mean.minutes }} as {{ name }}
        {%- endfor %}
    from {{ ref("int_flights") }}
    where {{ delays.known_at }} is not null and {{ since_held("scheduled_departure_at", days_before=days) }}
    {%- endif %}
),

by_grid_point as (
    select
        {{ key_columns }},
        {{ next_grid_point("known_at", step) }} as event_timestamp,
        sum(flights) as flights,
        sum(late_flights) as late_flights,
        sum(delays) as delays
        {%- for name in means %},
        sum({{ name }}) as {{ name }}
        {%- endfor %}
    from news
    group by {{ key_columns }}, event_timestamp
),

first_news as (
    select
        {{ key_columns }},
        min(event_timestamp) as first_known_at
    from {{ grid_starts("by_grid_point", keys, step) }}
    group by {{ key_columns }}
),

grid as (
    select
        {{ key_columns }},
        {{ grid_points("first_known_at", known_until(), step) }} as event_timestamp
    from first_news
),

so_far as (
    select
        {{ key_columns }},
        event_timestamp,
        {%- for column in ["flights", "late_flights", "delays"] + (means | list) %}
        sum(coalesce(by_grid_point.{{ column }}, 0)) over earlier as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from grid
    left join by_grid_point using ({{ key_columns }}, event_timestamp)
    window earlier as (partition by {{ key_columns }} order by event_timestamp)
),

rates as (
    select
        {{ key_columns }},
        event_timestamp,
        {%- for name, minutes in windows.items() %}
        {{ smoothed_late_rate(
            within_window("late_flights", minutes // step),
            within_window("flights", minutes // step),
        ) }} as {{ prefix }}_late_rate_{{ name }}{{ "," if not loop.last }}
        {%- endfor %}
        {%- for mean in means %}
        {%- for name, minutes in means[mean].windows.items() %},
        cast({{ within_window(mean, minutes // step) }} as double)
        / nullif({{ within_window("delays", minutes // step) }}, 0) as {{ prefix }}_{{ mean }}_{{ name }}
        {%- endfor %}
        {%- endfor %}
    from so_far
    window earlier as (partition by {{ key_columns }} order by event_timestamp)
)

select * from rates
where {{ since_held("event_timestamp") }}
{% endmacro %}

{# Of a sum that runs along a grid (window `earlier`): the part that came within the last points. #}
{% macro within_window(running_sum, points) -%}
    ({{ running_sum }} - lag({{ running_sum }}, {{ points }}, 0) over earlier)
{%- endmacro %}

{# The share of late flights, drawn towards the base rate where flights are few. #}
{% macro smoothed_late_rate(late_flights, flights) -%}
    cast({{ late_flights }} + {{ var("base_rate") * var("base_weight") }} as double)
    / cast({{ flights }} + {{ var("base_weight") }} as double)
{%- endmacro %}
