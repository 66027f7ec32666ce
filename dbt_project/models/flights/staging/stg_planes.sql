with source as (
    select * from {{ source("raw", "planes") }}
),

renamed as (
    select
        tailnum as tail_number,
        year as built_in,
        type as aircraft_type,
        manufacturer,
        model,
        engines,
        engine as engine_type,
        seats,
        _known_at as known_at
    from source
),

checked as (
    select
        *,
        case
            when manufacturer in ('AIRBUS INDUSTRIE', 'AIRBUS') then 'AIRBUS'
            when manufacturer like 'MCDONNELL DOUGLAS%' then 'MCDONNELL DOUGLAS'
            when manufacturer like 'CANADAIR%' then 'CANADAIR'
            else manufacturer
        end as one_manufacturer,
        seats <= 10 or aircraft_type <> 'Fixed wing multi engine' as registration_recycled,
        built_in is null as year_missing
    from renamed
),

flagged as (
    select
        *,
        manufacturer <> one_manufacturer as manufacturer_respelled
    from checked
)

select
    tail_number,
    built_in,
    aircraft_type,
    one_manufacturer as manufacturer,
    model,
    engines,
    engine_type,
    seats,
    known_at,
    not registration_recycled as is_airliner,
    {{ rules_touched(["manufacturer_respelled", "registration_recycled", "year_missing"]) }} as rules
from flagged
