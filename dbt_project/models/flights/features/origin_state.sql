{%- set step = 15 -%}
with flights as (
    select
        *,
        {{ epoch_minute("scheduled_departure_at") }} as scheduled_minute,
        {{ add_minutes("scheduled_departure_at", 15) }} as overdue_from,
        -- A flight that hasn't left after six hours is no longer waited for: cancelled, as a rule.
        {{ add_minutes("scheduled_departure_at", 360) }} as given_up_at
    from {{ ref("int_flights") }}
    where {{ since_held("scheduled_departure_at", days_before=9) }}
),

waiting as (
    select
        *,
        case when departed_at < given_up_at then departed_at else given_up_at end as overdue_until
    from flights
    where departed_at > overdue_from or departed_at is null
),

-- Everything that becomes known, at its instant. Who is overdue comes in at one and goes out at another.
news as (
    select
        origin,
        departed_at as known_at,
        1 as departed,
        departure_delay_minutes as departure_delay,
        0 as overdue,
        0 as overdue_scheduled_minutes,
        0 as outcomes,
        0 as late_outcomes
    from flights
    where departed_at is not null

    union all

    select
        origin,
        overdue_from as known_at,
        0 as departed,
        0 as departure_delay,
        1 as overdue,
        scheduled_minute as overdue_scheduled_minutes,
        0 as outcomes,
        0 as late_outcomes
    from waiting

    union all

    select
        origin,
        overdue_until as known_at,
        0 as departed,
        0 as departure_delay,
        -1 as overdue,
        -scheduled_minute as overdue_scheduled_minutes,
        0 as outcomes,
        0 as late_outcomes
    from waiting

    union all

    select
        origin,
        outcome_known_at as known_at,
        0 as departed,
        0 as departure_delay,
        0 as overdue,
        0 as overdue_scheduled_minutes,
        1 as outcomes,
        is_late as late_outcomes
    from {{ ref("int_flight_outcomes") }}
    where is_late is not null and {{ since_held("scheduled_departure_at", days_before=9) }}
),

by_grid_point as (
    select
        origin,
        {{ next_grid_point("known_at", step) }} as event_timestamp,
        sum(departed) as departed,
        sum(departure_delay) as departure_delay,
        sum(overdue) as overdue,
        sum(overdue_scheduled_minutes) as overdue_scheduled_minutes,
        sum(outcomes) as outcomes,
        sum(late_outcomes) as late_outcomes
    from news
    group by origin, event_timestamp
),

first_news as (
    select
        origin,
        min(event_timestamp) as first_known_at
    from {{ grid_starts("by_grid_point", ["origin"], step) }}
    group by origin
),

grid as (
    select
        origin,
        {{ grid_points("first_known_at", known_until(), step) }} as event_timestamp
    from first_news
),

so_far as (
    select
        origin,
        event_timestamp,
        sum(coalesce(by_grid_point.departed, 0)) over earlier as departed,
        sum(coalesce(by_grid_point.departure_delay, 0)) over earlier as departure_delay,
        sum(coalesce(by_grid_point.overdue, 0)) over earlier as overdue,
        sum(coalesce(by_grid_point.overdue_scheduled_minutes, 0)) over earlier as overdue_scheduled_minutes,
        sum(coalesce(by_grid_point.outcomes, 0)) over earlier as outcomes,
        sum(coalesce(by_grid_point.late_outcomes, 0)) over earlier as late_outcomes
    from grid
    left join by_grid_point using (origin, event_timestamp)
    window earlier as (partition by origin order by event_timestamp)
),

states as (
    select
        origin,
        event_timestamp,
        cast({{ within_window("departed", 4) }} as double) as departed_1h,
        cast({{ within_window("departure_delay", 4) }} as double)
        / nullif({{ within_window("departed", 4) }}, 0) as mean_departure_delay_1h,
        cast({{ within_window("departure_delay", 12) }} as double)
        / nullif({{ within_window("departed", 12) }}, 0) as mean_departure_delay_3h,
        cast(overdue as double) as overdue_count,
        case
            when overdue = 0 then 0
            else {{ epoch_minute("event_timestamp") }} - cast(overdue_scheduled_minutes as double) / overdue
        end as overdue_minutes,
        {{ smoothed_late_rate(within_window("late_outcomes", 12), within_window("outcomes", 12)) }}
            as origin_late_rate_3h,
        {{ smoothed_late_rate(within_window("late_outcomes", 96), within_window("outcomes", 96)) }}
            as origin_late_rate_24h,
        {{ smoothed_late_rate(within_window("late_outcomes", 672), within_window("outcomes", 672)) }}
            as origin_late_rate_7d
    from so_far
    window earlier as (partition by origin order by event_timestamp)
)

select * from states
where {{ since_held("event_timestamp") }}
