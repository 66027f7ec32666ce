{{ config(materialized="incremental") }}

with source as (
    select * from {{ source("raw", "dengue_cases") }}
    where _known_at <= {{ known_until() }} and {{ since_held("_known_at") }}
),

renamed as (
    select
        coalesce(moi_township_living || ', ' || moi_county_living, 'unknown') as township,
        coalesce(moi_county_living, 'unknown') as county,
        date_onset,
        date_notification,
        date_confirmation,
        coalesce(imported = 'Y', false) as is_imported,
        number_of_confirmed_cases as cases,
        _known_at as known_at,
        _source_line
    from source
),

checked as (
    select
        *,
        township = 'unknown' as township_unknown,
        date_confirmation is null as confirmation_not_dated,
        coalesce(date_confirmation > date_notification + interval '1 year', false) as confirmed_years_later,
        date_onset > date_notification as onset_after_notification
    from renamed
),

mended as (
    select
        *,
        case when onset_after_notification then date_notification else date_onset end as onset_date
    from checked
)

select
    township,
    county,
    onset_date,
    is_imported,
    cases,
    known_at,
    -- Cases have no name. Those that became known at once, of one place and day, are told apart by counting them.
    row_number() over (partition by known_at, township, onset_date order by _source_line) as nth,
    {{ rules_touched([
        "township_unknown",
        "confirmation_not_dated",
        "confirmed_years_later",
        "onset_after_notification",
    ]) }} as rules
from mended
