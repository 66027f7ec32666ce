with weeks as (
    select distinct
        county,
        week_at
    from {{ ref("int_township_weeks") }}
    where {{ since_held("week_at") }}
),

reports as (
    select * from {{ ref("int_township_reports") }}
),

of_county as (
    select
        weeks.county,
        weeks.week_at,
        sum(case when reports.week_at = weeks.week_at then reports.reported end) as reported_1w,
        sum(case when reports.week_at < weeks.week_at then reports.reported end) as reported_2w
    from weeks
    left join reports
        on
            weeks.county = reports.county
            and weeks.week_at >= reports.week_at
            and weeks.week_at - interval '7 days' <= reports.week_at
    group by weeks.county, weeks.week_at
),

each_week as (
    select
        week_at,
        sum(reported_3d) as reported_3d,
        sum(reported) as reported
    from reports
    group by week_at
),

of_taiwan as (
    select
        weeks.week_at,
        sum(case when each_week.week_at = weeks.week_at then each_week.reported_3d end) as reported_3d,
        sum(case when each_week.week_at = weeks.week_at then each_week.reported end) as reported_1w,
        sum(case when each_week.week_at < weeks.week_at then each_week.reported end) as reported_2w
    from (select distinct week_at from weeks) as weeks
    left join each_week
        on
            weeks.week_at >= each_week.week_at
            and weeks.week_at - interval '7 days' <= each_week.week_at
    group by weeks.week_at
)

select
    of_county.county,
    of_county.week_at as event_timestamp,
    {{ log_count("of_county.reported_1w") }} as log_county_reported_1w,
    {{ log_count("of_county.reported_2w") }} as log_county_reported_2w,
    {{ log_count("of_taiwan.reported_3d") }} as log_taiwan_reported_3d,
    {{ log_count("of_taiwan.reported_1w") }} as log_taiwan_reported_1w,
    {{ log_count("of_taiwan.reported_2w") }} as log_taiwan_reported_2w,
    sin(2 * pi() * extract(doy from of_county.week_at) / 365.25) as season_sin,
    cos(2 * pi() * extract(doy from of_county.week_at) / 365.25) as season_cos
from of_county
inner join of_taiwan on of_county.week_at = of_taiwan.week_at
