with weather as (
    select * from {{ ref("int_weather") }}
    where {{ since_held("known_at", days_before=1) }}
),

looked_back as (
    select
        *,
        min(visibility) over last_3_hours as min_visibility_3h,
        sum(rain) over last_3_hours as rain_3h,
        max(pressure) over six_hours_before as pressure_6h_before
    from weather
    window
        last_3_hours as (
            partition by origin order by observed_hour_at
            range between interval '2 hours' preceding and current row
        ),
        six_hours_before as (
            partition by origin order by observed_hour_at
            range between interval '6 hours' preceding and interval '6 hours' preceding
        )
)

select
    origin,
    known_at as event_timestamp,
    temperature,
    dew_point,
    humidity,
    cast(wind_direction as double) as wind_direction,
    wind_speed,
    wind_gust,
    visibility,
    min_visibility_3h,
    rain_3h,
    pressure,
    pressure - pressure_6h_before as pressure_change_6h,
    cast(
        cast(temperature is null as integer)
        + cast(humidity is null as integer)
        + cast(wind_direction is null as integer)
        + cast(wind_speed is null as integer)
        + cast(pressure is null as integer)
        + cast(visibility is null as integer)
        as double
    ) as missing_count,
    cast(cast(pressure is null as integer) as double) as pressure_missing
from looked_back
where {{ since_held("known_at") }}
