{{ config(materialized="incremental", unique_key="flight_id") }}

with flights as (
    select
        *,
        {{ add_minutes("scheduled_arrival_at", 15) }} as late_from,
        {{ known_until() }} as known_until
    from {{ ref("int_flights") }}
    where {{ since_held("known_at") }} or {{ since_held(add_minutes("scheduled_arrival_at", 15)) }}
),

judged as (
    select
        *,
        case
            when arrived_at < late_from then 0
            when late_from <= known_until then 1
        end as is_late
    from flights
),

dated as (
    select
        *,
        case is_late when 0 then arrived_at when 1 then late_from end as outcome_known_at
    from judged
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
    known_at,
    is_late,
    outcome_known_at
from dated
-- A flight is new, or its outcome is.
where {{ since_held("known_at") }} or {{ since_held("outcome_known_at") }}
