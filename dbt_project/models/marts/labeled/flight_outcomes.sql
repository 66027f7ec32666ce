with flights as (
    select
        *,
        {{ add_minutes("scheduled_arrival_at", 15) }} as late_from,
        {{ known_until() }} as known_until
    from {{ ref("int_flights") }}
),

judged as (
    select
        *,
        case
            when arrived_at < late_from then 0
            when late_from <= known_until then 1
        end as is_late
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
    is_late,
    case is_late when 0 then arrived_at when 1 then late_from end as label_known_at
from judged
