with legs as (
    select
        *,
        {{ add_minutes("scheduled_departure_at", 15) }} as overdue_from
    from {{ ref("int_flights") }}
    where tail_number is not null and {{ since_held("scheduled_departure_at", days_before=2) }}
),

events as (
    select
        *,
        overdue_from as event_timestamp,
        1 as step,
        {{ epoch_minute("overdue_from") }} + block_minutes as expected_arrival_minute,
        15 as departure_delay
    from legs
    where coalesce(departed_at > overdue_from, true) and overdue_from <= {{ known_until() }}

    union all

    select
        *,
        departed_at as event_timestamp,
        2 as step,
        {{ epoch_minute("departed_at") }} + block_minutes as expected_arrival_minute,
        departure_delay_minutes as departure_delay
    from legs
    where departed_at is not null

    union all

    select
        *,
        arrived_at as event_timestamp,
        3 as step,
        {{ epoch_minute("arrived_at") }} as expected_arrival_minute,
        departure_delay_minutes as departure_delay
    from legs
    where arrived_at is not null
),

-- News of an earlier leg says nothing about an aircraft that is known to be on a later one.
ranked as (
    select
        *,
        max(scheduled_departure_at) over (
            partition by tail_number
            order by event_timestamp
            range between unbounded preceding and current row
        ) as newest_leg_at,
        row_number() over (
            partition by tail_number, event_timestamp
            order by scheduled_departure_at desc, step desc, flight_id asc
        ) as rank_at_instant
    from events
)

select
    tail_number,
    event_timestamp,
    cast(expected_arrival_minute as double) as leg_expected_arrival_minute,
    cast(block_minutes as double) as leg_block_minutes,
    cast(departure_delay as double) as leg_departure_delay,
    cast(case when step = 1 then 1 else 0 end as double) as leg_overdue,
    cast(case when step = 3 then 1 else 0 end as double) as leg_arrived
from ranked
where
    scheduled_departure_at = newest_leg_at
    and rank_at_instant = 1
    and {{ since_held("event_timestamp") }}
