with known_so_far as (
    select
        township,
        county,
        known_at,
        sum(sum(cases)) over (
            partition by township order by known_at
            range between unbounded preceding and current row
        ) as cases
    from {{ ref("int_case_counts") }}
    where township <> 'unknown'
    group by township, county, known_at
),

-- By what was known at the time alone: which townships get many cases later says nothing here.
listed as (
    select
        township,
        county,
        {{ next_monday("min(known_at)") }} as listed_at
    from known_so_far
    where cases >= 50
    group by township, county
)

select
    township,
    county,
    {{ grid_points("listed_at", known_until(), 10080) }} as week_at
from listed
