{{ config(materialized="incremental") }}

with source as (
    select * from {{ source("raw", "weather") }}
    where _known_at <= {{ known_until() }} and {{ since_held("_known_at", days_before=1) }}
),

renamed as (
    select
        origin,
        time_hour as observed_hour_at,
        make_timestamp(year, month, day, hour, 0, 0) as clock_hour,
        temp as temperature,
        dewp as dew_point,
        humid as humidity,
        wind_dir as wind_direction,
        wind_speed,
        wind_gust,
        precip as rain,
        pressure,
        visib as visibility,
        _known_at as known_at
    from source
),

checked as (
    select
        *,
        coalesce(humidity > 100, false) as humidity_above_100,
        coalesce(wind_speed > 150, false) or coalesce(wind_gust > 200, false) as wind_impossible,
        wind_gust is null and wind_speed is not null as gust_not_reported,
        pressure is null as pressure_missing,
        count(*) over the_day_before > 1 as clock_hour_repeated
    from renamed
    window
        the_day_before as (
            partition by origin, clock_hour order by observed_hour_at
            range between interval '1 day' preceding and current row
        )
)

select
    origin,
    observed_hour_at,
    temperature,
    dew_point,
    wind_direction,
    rain,
    pressure,
    visibility,
    known_at,
    case when humidity_above_100 then 100 else humidity end as humidity,
    case when not wind_impossible then wind_speed end as wind_speed,
    case
        when wind_impossible then null
        when gust_not_reported then wind_speed
        else wind_gust
    end as wind_gust,
    {{ rules_touched([
        "humidity_above_100",
        "wind_impossible",
        "gust_not_reported",
        "pressure_missing",
        "clock_hour_repeated",
    ]) }} as rules
from checked
where {{ since_held("known_at") }}
