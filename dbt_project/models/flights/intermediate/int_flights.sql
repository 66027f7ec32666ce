{{ config(materialized="incremental", unique_key="flight_id") }}

with flights as (
    select * from {{ ref("stg_flights") }}
    where {{ since_held("last_known_at") }}
),

airports as (
    select * from {{ ref("int_airports") }}
),

at_destination as (
    select
        flights.*,
        airports.time_zone,
        airports.is_added as destination_not_in_airports,
        {{ utc_to_local("flights.scheduled_departure_at", "airports.time_zone") }} as departure_clock
    from flights
    inner join airports on flights.destination = airports.airport
),

arriving as (
    select
        *,
        {{ add_minutes("date_trunc('day', departure_clock)", "scheduled_arrival_minute_of_day") }} as same_day_clock
    from at_destination
),

checked as (
    select
        *,
        same_day_clock <= departure_clock as arrival_after_midnight
    from arriving
),

timed as (
    select
        *,
        {{ local_to_utc(
            "case when arrival_after_midnight then same_day_clock + interval '1 day' else same_day_clock end",
            "time_zone",
        ) }} as scheduled_arrival_at
    from checked
)

select
    flight_id,
    flight_date,
    carrier,
    flight_number,
    tail_number,
    origin,
    destination,
    scheduled_hour,
    scheduled_minute_of_day,
    scheduled_departure_at,
    scheduled_arrival_at,
    departure_delay_minutes,
    arrival_delay_minutes,
    distance_miles,
    known_at,
    last_known_at,
    {{ epoch_minute("scheduled_arrival_at") }} - {{ epoch_minute("scheduled_departure_at") }} as block_minutes,
    {{ add_minutes("scheduled_departure_at", "departure_delay_minutes") }} as departed_at,
    {{ add_minutes("scheduled_arrival_at", "arrival_delay_minutes") }} as arrived_at,
    {{ rules_touched(["destination_not_in_airports", "arrival_after_midnight"]) }} as rules
from timed
