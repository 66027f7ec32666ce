with counts as (
    select
        *,
        {{ next_monday("known_at") }} as week_at
    from {{ ref("int_case_counts") }}
),

reported as (
    select
        township,
        county,
        week_at,
        sum(cases) as reported,
        sum(case when known_at > week_at - interval '3 days' then cases else 0 end) as reported_3d,
        sum(imported_cases) as imported_cases,
        0 as onset_1w,
        0 as onset_2w
    from counts
    group by township, county, week_at
),

-- A case counts in the weeks after its onset from the Monday on at which it is known.
counted_by_onset as (
    select
        township,
        county,
        cases,
        onset_date,
        {{ grid_points("week_at", "cast(onset_date as timestamp) + interval '14 days'", 10080) }} as week_at
    from counts
    where week_at <= cast(onset_date as timestamp) + interval '14 days'
),

by_onset as (
    select
        township,
        county,
        week_at,
        0 as reported,
        0 as reported_3d,
        0 as imported_cases,
        sum(case when week_at <= cast(onset_date as timestamp) + interval '7 days' then cases else 0 end) as onset_1w,
        sum(case when week_at > cast(onset_date as timestamp) + interval '7 days' then cases else 0 end) as onset_2w
    from counted_by_onset
    group by township, county, week_at
),

both_counts as (
    select * from reported
    union all
    select * from by_onset
)

select
    township,
    county,
    week_at,
    cast(sum(reported) as bigint) as reported,
    cast(sum(reported_3d) as bigint) as reported_3d,
    cast(sum(imported_cases) as bigint) as imported_cases,
    cast(sum(onset_1w) as bigint) as onset_1w,
    cast(sum(onset_2w) as bigint) as onset_2w
from both_counts
where week_at <= {{ known_until() }}
group by township, county, week_at
