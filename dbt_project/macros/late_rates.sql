{#
  Late rates of flights whose outcome was known, per key and grid point T: of the outcomes that became known
  in (T - window, T]. Counts run over the grid once and are subtracted from themselves one window earlier,
  so the cost grows with the grid and not with the windows. A key's grid starts with its first outcome.

  keys: columns of flight_outcomes; prefix: of the rates' names; step: minutes; windows: name -> minutes.
#}
{% macro late_rates(keys, prefix, step, windows) %}
with outcomes as (
    select
        {{ keys | join(", ") }},
        {{ next_grid_point("label_known_at", step) }} as known_by,
        count(*) as flights,
        sum(is_late) as late_flights
    from {{ ref("flight_outcomes") }}
    where is_late is not null
    group by {{ keys | join(", ") }}, known_by
),

first_outcomes as (
    select {{ keys | join(", ") }}, min(known_by) as first_known_by
    from outcomes
    group by {{ keys | join(", ") }}
),

grid as (
    select
        {{ keys | join(", ") }},
        {{ grid_points("first_known_by", known_until(), step) }} as event_timestamp
    from first_outcomes
),

running as (
    select
        {% for key in keys %}grid.{{ key }},{% endfor %}
        grid.event_timestamp,
        sum(coalesce(outcomes.flights, 0)) over so_far as flights,
        sum(coalesce(outcomes.late_flights, 0)) over so_far as late_flights
    from grid
    left join outcomes
        on grid.event_timestamp = outcomes.known_by
        {% for key in keys %}and grid.{{ key }} = outcomes.{{ key }}
        {% endfor %}
    window so_far as (
        partition by {% for key in keys %}grid.{{ key }}{{ ", " if not loop.last }}{% endfor %}
        order by grid.event_timestamp
    )
)

select
    {{ keys | join(", ") }},
    event_timestamp,
    {% for name, minutes in windows.items() -%}
    {{ smoothed_late_rate(
        "late_flights - lag(late_flights, " ~ (minutes // step) ~ ", 0) over so_far",
        "flights - lag(flights, " ~ (minutes // step) ~ ", 0) over so_far",
    ) }} as {{ prefix }}_late_rate_{{ name }}{{ "," if not loop.last }}
    {% endfor %}
from running
window so_far as (partition by {{ keys | join(", ") }} order by event_timestamp)
{% endmacro %}

{# The share of late flights, drawn towards the base rate where flights are few. #}
{% macro smoothed_late_rate(late_flights, flights) -%}
    cast(({{ late_flights }}) + {{ var("base_rate") * var("base_weight") }} as double)
    / cast(({{ flights }}) + {{ var("base_weight") }} as double)
{%- endmacro %}
