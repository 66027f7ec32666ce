{{ config(materialized="incremental", unique_key="flight_id") }}

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
    is_late,
    outcome_known_at as label_known_at
from {{ ref("int_flight_outcomes") }}
where {{ since_held("known_at") }} or {{ since_held("outcome_known_at") }}
