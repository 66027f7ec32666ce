{%- set grid_minutes = 15 -%}
with flights as (
    select
        *,
        {{ add_minutes("scheduled_departure_at", 15) }} as overdue_from,
        -- A flight that hasn't left after six hours isn't waited for any more: cancelled, as a rule.
        least(
            coalesce(departed_at, {{ add_minutes("scheduled_departure_at", 360) }}),
            {{ add_minutes("scheduled_departure_at", 360) }}
        ) as overdue_until
    from {{ ref("int_flights") }}
),

outcomes as (
    select * from {{ ref("flight_outcomes") }}
),

departures as (
    select
        origin,
        {{ next_grid_point("departed_at", grid_minutes) }} as event_timestamp,
        count(*) as departed,
        sum(departure_delay_minutes) as departure_delay
    from flights
    where departed_at is not null
    group by origin, event_timestamp
),

-- Whoever is overdue comes in at one grid point and goes out at another.
overdue_changes as (
    select
        origin,
        {{ next_grid_point("overdue_from", grid_minutes) }} as event_timestamp,
        1 as change,
        {{ epoch_minute("scheduled_departure_at") }} as scheduled_minute
    from flights
    where overdue_from < overdue_until

    union all

    select
        origin,
        {{ next_grid_point("overdue_until", grid_minutes) }} as event_timestamp,
        -1 as change,
        {{ epoch_minute("scheduled_departure_at") }} as scheduled_minute
    from flights
    where overdue_from < overdue_until
),

overdue as (
    select
        origin,
        event_timestamp,
        sum(change) as overdue,
        sum(change * scheduled_minute) as overdue_scheduled_minutes
    from overdue_changes
    group by origin, event_timestamp
),

labels as (
    select
        origin,
        {{ next_grid_point("label_known_at", grid_minutes) }} as event_timestamp,
        count(*) as labels,
        sum(is_late) as late_labels
    from outcomes
    where is_late is not null
    group by origin, event_timestamp
),

first_departures as (
    select origin, min(event_timestamp) as first_event_at
    from departures
    group by origin
),

grid as (
    select
        origin,
        {{ grid_points("first_event_at", known_until(), grid_minutes) }} as event_timestamp
    from first_departures
),

running as (
    select
        grid.origin,
        grid.event_timestamp,
        sum(coalesce(departures.departed, 0)) over so_far as departed,
        sum(coalesce(departures.departure_delay, 0)) over so_far as departure_delay,
        sum(coalesce(overdue.overdue, 0)) over so_far as overdue,
        sum(coalesce(overdue.overdue_scheduled_minutes, 0)) over so_far as overdue_scheduled_minutes,
        sum(coalesce(labels.labels, 0)) over so_far as labels,
        sum(coalesce(labels.late_labels, 0)) over so_far as late_labels
    from grid
    left join departures
        on grid.origin = departures.origin and grid.event_timestamp = departures.event_timestamp
    left join overdue
        on grid.origin = overdue.origin and grid.event_timestamp = overdue.event_timestamp
    left join labels
        on grid.origin = labels.origin and grid.event_timestamp = labels.event_timestamp
    window so_far as (partition by grid.origin order by grid.event_timestamp)
),

windowed as (
    select
        *,
        {% for name, points in {"1h": 4, "3h": 12}.items() -%}
        departed - lag(departed, {{ points }}, 0) over so_far as departed_{{ name }},
        departure_delay - lag(departure_delay, {{ points }}, 0) over so_far as departure_delay_{{ name }},
        {% endfor -%}
        {% for name, points in {"3h": 12, "24h": 96, "7d": 672}.items() -%}
        labels - lag(labels, {{ points }}, 0) over so_far as labels_{{ name }},
        late_labels - lag(late_labels, {{ points }}, 0) over so_far as late_labels_{{ name }}{{ "," if not loop.last }}
        {% endfor %}
    from running
    window so_far as (partition by origin order by event_timestamp)
)

select
    origin,
    event_timestamp,
    cast(departed_1h as double) as departed_1h,
    cast(departure_delay_1h as double) / nullif(departed_1h, 0) as mean_departure_delay_1h,
    cast(departure_delay_3h as double) / nullif(departed_3h, 0) as mean_departure_delay_3h,
    cast(overdue as double) as overdue_count,
    case
        when overdue = 0 then 0
        else {{ epoch_minute("event_timestamp") }} - cast(overdue_scheduled_minutes as double) / overdue
    end as overdue_minutes,
    {{ smoothed_late_rate("late_labels_3h", "labels_3h") }} as origin_late_rate_3h,
    {{ smoothed_late_rate("late_labels_24h", "labels_24h") }} as origin_late_rate_24h,
    {{ smoothed_late_rate("late_labels_7d", "labels_7d") }} as origin_late_rate_7d
from windowed
