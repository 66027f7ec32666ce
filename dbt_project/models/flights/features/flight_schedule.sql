with flights as (
    select * from {{ ref("int_flights") }}
    where {{ since_held("known_at", days_before=1) }}
),

days as (
    select distinct flight_date from flights
),

holidays as (
    select * from {{ ref("us_holidays") }}
),

days_from_holidays as (
    select
        days.flight_date,
        min(abs({{ datediff("days.flight_date", "holidays.holiday_date", "day") }})) as days_to_holiday
    from days
    cross join holidays
    group by days.flight_date
),

counted as (
    select
        *,
        {{ add_minutes("known_at", 60) }} as event_timestamp,
        count(*) over (
            partition by origin
            order by scheduled_departure_at
            range between interval '60 minutes' preceding and interval '60 minutes' following
        ) as departures_within_hour
    from flights
)

select
    counted.flight_id,
    counted.event_timestamp,
    counted.carrier as carrier_code,
    counted.origin as origin_code,
    cast(counted.scheduled_minute_of_day as double) as minute_of_day,
    cast({{ iso_weekday("counted.flight_date") }} as double) as weekday,
    cast(least(days_from_holidays.days_to_holiday, 7) as double) as days_to_holiday,
    cast(counted.block_minutes as double) as block_minutes,
    cast(counted.distance_miles as double) as distance_miles,
    cast(counted.departures_within_hour as double) as departures_within_hour,
    cast({{ epoch_minute("counted.scheduled_departure_at") }} as double) as scheduled_departure_minute
from counted
inner join days_from_holidays on counted.flight_date = days_from_holidays.flight_date
-- The neighbours of the next hour are known an hour later than the flight itself.
where counted.event_timestamp <= {{ known_until() }} and {{ since_held("counted.event_timestamp") }}
