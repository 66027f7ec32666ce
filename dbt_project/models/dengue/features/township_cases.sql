with weeks as (
    select * from {{ ref("int_township_weeks") }}
    where {{ since_held("week_at") }}
),

reports as (
    select * from {{ ref("int_township_reports") }}
),

own as (
    select
        weeks.township,
        weeks.week_at,
        sum(case when reports.week_at = weeks.week_at then reports.onset_1w end) as onset_1w,
        sum(case when reports.week_at = weeks.week_at then reports.onset_2w end) as onset_2w,
        sum(case when reports.week_at = weeks.week_at then reports.reported_3d end) as reported_3d,
        sum(case when reports.week_at = weeks.week_at then reports.reported end) as reported_1w,
        sum(case when reports.week_at = weeks.week_at - interval '7 days' then reports.reported end) as reported_2w,
        sum(case when reports.week_at > weeks.week_at - interval '28 days' then reports.reported end) as reported_4w,
        sum(case when reports.week_at > weeks.week_at - interval '364 days' then reports.reported end) as reported_52w,
        sum(
            case when reports.week_at > weeks.week_at - interval '28 days' then reports.imported_cases end
        ) as imported_4w,
        max(case when reports.reported > 0 then reports.week_at end) as last_reported_at
    from weeks
    left join reports
        on
            weeks.township = reports.township
            and weeks.week_at >= reports.week_at
            and weeks.week_at - interval '728 days' < reports.week_at
    group by weeks.township, weeks.week_at
),

nearby as (
    select
        weeks.township,
        weeks.week_at,
        sum(neighbours.weight * reports.onset_1w) as onset_1w,
        sum(neighbours.weight * reports.reported) as reported_1w
    from weeks
    inner join {{ ref("int_township_neighbours") }} as neighbours on weeks.township = neighbours.township
    inner join reports on neighbours.neighbour = reports.township and weeks.week_at = reports.week_at
    group by weeks.township, weeks.week_at
)

select
    own.township,
    own.week_at as event_timestamp,
    {{ log_count("own.onset_1w") }} as log_onset_1w,
    {{ log_count("own.onset_2w") }} as log_onset_2w,
    {{ log_count("own.reported_3d") }} as log_reported_3d,
    {{ log_count("own.reported_1w") }} as log_reported_1w,
    {{ log_count("own.reported_2w") }} as log_reported_2w,
    {{ log_count("own.reported_4w") }} as log_reported_4w,
    {{ log_count("own.reported_52w") }} as log_reported_52w,
    {{ log_count("own.imported_4w") }} as log_imported_4w,
    cast(
        coalesce(
            ({{ epoch_minute("own.week_at") }} - {{ epoch_minute("own.last_reported_at") }}) / 10080, 104
        ) as double
    ) as weeks_since_report,
    {{ log_count("nearby.onset_1w / 1000.0") }} as log_nearby_onset_1w,
    {{ log_count("nearby.reported_1w / 1000.0") }} as log_nearby_reported_1w
from own
left join nearby on own.township = nearby.township and own.week_at = nearby.week_at
