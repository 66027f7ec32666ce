with planes as (
    select * from {{ ref("stg_planes") }}
)

select
    tail_number,
    known_at as event_timestamp,
    cast(case when is_airliner then extract(year from known_at) - built_in end as double) as age_years,
    cast(case when is_airliner then seats end as double) as seats
from planes
