{{ config(materialized="incremental", unique_key="flight_id") }}

with flights as (
    select
        *,
        {{ add_minutes("scheduled_arrival_at", 15) }} as late_from,
        -- No flight of the data arrives a day late. One that did would stay what it was taken for: a label is for good.
        {{ add_minutes("scheduled_arrival_at", 1440) }} as given_up_at
    from {{ ref("int_flights") }}
    where
        {{ since_held("known_at") }}
        or {{ since_held("arrived_at") }}
        or {{ since_held(add_minutes("scheduled_arrival_at", 1440)) }}
),

judged as (
    select
        *,
        case
            when arrived_at < late_from then 'on_time'
            when arrived_at < given_up_at then 'late'
            when given_up_at <= {{ known_until() }} then 'cancelled_or_diverted'
        end as outcome
    from flights
)

select
    flight_id,
    origin,
    carrier,
    destination,
    flight_number,
    tail_number,
    scheduled_departure_at,
    scheduled_arrival_at,
    scheduled_hour,
    {{ add_minutes("scheduled_departure_at", -120) }} as prediction_time,
    outcome,
    case when outcome = 'cancelled_or_diverted' then given_up_at when outcome is not null then arrived_at end
        as label_known_at
from judged
