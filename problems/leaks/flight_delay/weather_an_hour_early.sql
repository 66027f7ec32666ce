select
    origin,
    event_timestamp - interval '1 hour' as event_timestamp,
    temperature,
    dew_point,
    humidity,
    wind_direction,
    wind_speed,
    wind_gust,
    visibility,
    min_visibility_3h,
    rain_3h,
    pressure,
    pressure_change_6h,
    missing_count,
    pressure_missing
from features.origin_weather
