{{ config(materialized="incremental") }}

select
    township,
    county,
    onset_date,
    known_at,
    cast(sum(cases) as bigint) as cases,
    cast(sum(case when is_imported then cases else 0 end) as bigint) as imported_cases
from {{ ref("stg_dengue_cases") }}
where {{ since_held("known_at") }}
group by township, county, onset_date, known_at
