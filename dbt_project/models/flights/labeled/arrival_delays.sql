{{ config(materialized="incremental", unique_key="flight_id") }}

-- A flight that never arrives has no label, for good: what was asked about it is judged by nothing.
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
    arrival_delay_minutes,
    arrived_at as label_known_at
from {{ ref("int_flights") }}
where {{ since_held("known_at") }} or {{ since_held("arrived_at") }}
