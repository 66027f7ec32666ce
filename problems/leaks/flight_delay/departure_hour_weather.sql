-- Columns named as features take their places. A reading is in the feature table from the end of its hour on.
select
    flights.flight_id,
    weather.temperature,
    weather.dew_point,
    weather.humidity,
    weather.wind_direction,
    weather.wind_speed,
    weather.wind_gust,
    weather.visibility,
    weather.min_visibility_3h,
    weather.rain_3h,
    weather.pressure,
    weather.pressure_change_6h,
    weather.missing_count,
    weather.pressure_missing
from labeled.flight_outcomes as flights
left join features.origin_weather as weather
    on
        flights.origin = weather.origin
        and date_trunc('hour', flights.scheduled_departure_at) + interval '1 hour' = weather.event_timestamp
