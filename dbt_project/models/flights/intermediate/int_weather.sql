{{ config(materialized="incremental") }}

with weather as (
    select * from {{ ref("stg_weather") }}
    where {{ since_held("known_at", days_before=1) }}
),

compared as (
    select
        *,
        median(temperature) over (
            partition by origin
            order by observed_hour_at
            range between interval '6 hours' preceding and interval '1 hour' preceding
        ) as usual_temperature
    from weather
),

checked as (
    select
        *,
        coalesce(abs(temperature - usual_temperature) > 30, false) as temperature_jump
    from compared
)

select
    origin,
    observed_hour_at,
    humidity,
    wind_direction,
    wind_speed,
    wind_gust,
    rain,
    pressure,
    visibility,
    known_at,
    case when not temperature_jump then temperature end as temperature,
    case when not temperature_jump then dew_point end as dew_point,
    {{ rules_touched(["temperature_jump"]) }} as rules
from checked
where {{ since_held("known_at") }}
