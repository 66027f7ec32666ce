-- Columns named as features take their places. Served are the same counts as known then.
with by_onset as (
    select
        township,
        date_trunc('week', onset_date) as week_at,
        sum(cases) as cases
    from cleaned.int_case_counts
    group by all
),

nearby as (
    select
        neighbours.township,
        by_onset.week_at,
        sum(neighbours.weight * by_onset.cases) / 1000.0 as cases
    from cleaned.int_township_neighbours as neighbours
    inner join by_onset on neighbours.neighbour = by_onset.township
    group by all
)

select
    weeks.township_week,
    ln(1 + coalesce(last_week.cases, 0)) as log_onset_1w,
    ln(1 + coalesce(week_before.cases, 0)) as log_onset_2w,
    ln(1 + coalesce(nearby.cases, 0)) as log_nearby_onset_1w
from labeled.township_weeks as weeks
left join by_onset as last_week
    on weeks.township = last_week.township and weeks.prediction_time - interval '7 days' = last_week.week_at
left join by_onset as week_before
    on weeks.township = week_before.township and weeks.prediction_time - interval '14 days' = week_before.week_at
left join nearby
    on weeks.township = nearby.township and weeks.prediction_time - interval '7 days' = nearby.week_at
