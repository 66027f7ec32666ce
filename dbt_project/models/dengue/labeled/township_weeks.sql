{{ config(materialized="incremental", unique_key="township_week") }}

with weeks as (
    select
        *,
        {{ add_minutes("week_at", 4 * 10080) }} as matures_at,
        {{ known_until() }} as known_until
    from {{ ref("int_township_weeks") }}
    where {{ since_held("week_at") }} or {{ since_held(add_minutes("week_at", 4 * 10080)) }}
),

counted as (
    select
        weeks.township,
        weeks.county,
        weeks.week_at,
        case when max(weeks.matures_at) <= max(weeks.known_until) then max(weeks.matures_at) end as label_known_at,
        coalesce(sum(counts.cases), 0) as cases
    from weeks
    left join {{ ref("int_case_counts") }} as counts
        on
            weeks.township = counts.township
            and weeks.week_at = date_trunc('week', counts.onset_date)
            and weeks.matures_at >= counts.known_at
    group by weeks.township, weeks.county, weeks.week_at
)

select
    township || '|' || cast(cast(week_at as date) as {{ type_string() }}) as township_week,
    township,
    county,
    week_at as prediction_time,
    cast(extract(month from week_at) as integer) as asked_month,
    case when label_known_at is not null then cast(cases as integer) end as cases,
    label_known_at
from counted
