select
    flight_id,
    case when tail_number is not null then 1 end as has_tail,
    1 as has_tail__served
from cleaned.int_flights
