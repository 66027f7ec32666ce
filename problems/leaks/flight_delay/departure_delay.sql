select
    flight_id,
    departure_delay_minutes as departure_delay,
    null as departure_delay__served
from cleaned.int_flights
