{{ config(materialized="incremental", unique_key="flight_id") }}

with source as (
    select * from {{ source("raw", "flights") }}
    where
        _known_at <= {{ known_until() }}
        -- Of a flight, nothing is heard two days after its schedule: the year's other files aren't opened.
        and {{ since_held("time_hour", days_before=3) }}
        and (
            {{ since_held("_known_at") }}
            or {{ since_held("_departure_known_at") }}
            or {{ since_held("_arrival_known_at") }}
        )
),

renamed as (
    select
        make_date(year, month, day) as flight_date,
        carrier,
        flight as flight_number,
        tailnum as tail_number,
        origin,
        dest as destination,
        hour as scheduled_hour,
        hour * 60 + minute as scheduled_minute_of_day,
        {{ add_minutes("time_hour", "minute") }} as scheduled_departure_at,
        {{ clock_minute("sched_arr_time") }} as scheduled_arrival_minute_of_day,
        {{ clock_minute("arr_time") }} as arrival_minute_of_day,
        dep_delay as departure_delay_minutes,
        arr_delay as arrival_delay_minutes,
        distance as distance_miles,
        _known_at as known_at,
        greatest(_known_at, _departure_known_at, _arrival_known_at) as last_known_at,
        dep_time,
        arr_time,
        sched_arr_time
    from source
),

checked as (
    select
        *,
        tail_number is null as tail_number_missing,
        coalesce(dep_time = 2400, false) or coalesce(arr_time = 2400, false) as midnight_written_as_2400,
        coalesce(arr_time - sched_arr_time <> arrival_delay_minutes, false) as clock_times_not_subtractable,
        arr_time is not null and arrival_delay_minutes is null as diverted_arrival_not_used
    from renamed
)

select
    {{ flight_id("flight_date", "origin", "carrier", "flight_number") }} as flight_id,
    flight_date,
    carrier,
    flight_number,
    tail_number,
    origin,
    destination,
    scheduled_hour,
    scheduled_minute_of_day,
    scheduled_departure_at,
    scheduled_arrival_minute_of_day,
    arrival_minute_of_day,
    departure_delay_minutes,
    arrival_delay_minutes,
    distance_miles,
    known_at,
    last_known_at,
    {{ rules_touched([
        "tail_number_missing",
        "midnight_written_as_2400",
        "clock_times_not_subtractable",
        "diverted_arrival_not_used",
    ]) }} as rules
from checked
