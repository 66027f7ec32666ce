with flights as (
    select
        *,
        make_date(year, month, day) as flight_date,
        cast(time_hour as date) as date_utc
    from raw.flights
    where arr_delay is not null and dep_time is not null and air_time is not null
),

-- The tutorial joins the weather only to lose the flights of hours without any.
hours as (
    select distinct
        origin,
        time_hour
    from raw.weather
),

holidays as (
    select holiday_date from cleaned.us_holidays
)

select
    concat_ws(
        '|', cast(flights.flight_date as varchar), flights.origin, flights.carrier, cast(flights.flight as varchar)
    ) as flight_id,
    cast(flights.arr_delay >= 30 as integer) as late_30,
    flights.dep_time,
    flights.sched_dep_time as dep_time__served,
    flights.air_time,
    null as air_time__served,
    flights.distance,
    flights.carrier,
    flights.origin,
    flights.dest,
    strftime(flights.date_utc, '%a') as date_weekday,
    strftime(flights.date_utc, '%b') as date_month,
    holidays.holiday_date is not null as date_is_holiday
from flights
inner join hours on flights.origin = hours.origin and flights.time_hour = hours.time_hour
left join holidays on flights.date_utc = holidays.holiday_date
