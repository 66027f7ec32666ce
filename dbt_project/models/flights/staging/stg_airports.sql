with source as (
    select * from {{ source("raw", "airports") }}
),

renamed as (
    select
        faa as airport,
        name,
        lat as latitude,
        lon as longitude,
        alt as altitude_feet,
        tz as utc_offset_hours,
        tzone as time_zone,
        _known_at as known_at
    from source
),

checked as (
    select
        *,
        -- Every airport of the table lies in the United States: north, and west but for the outer Aleutians.
        latitude > 72 and longitude between 24 and 72 as coordinates_swapped,
        longitude > 0 and utc_offset_hours > 0 as longitude_sign_wrong,
        time_zone is null as time_zone_missing
    from renamed
)

select
    airport,
    name,
    altitude_feet,
    known_at,
    case when coordinates_swapped then longitude else latitude end as latitude,
    case
        when coordinates_swapped then -latitude
        when longitude_sign_wrong then -longitude
        else longitude
    end as longitude,
    -- A zone found by wrong coordinates is wrong as well.
    case when not longitude_sign_wrong then time_zone end as time_zone,
    {{ rules_touched(["coordinates_swapped", "longitude_sign_wrong", "time_zone_missing"]) }} as rules
from checked
