with outcomes as (
    select
        carrier,
        flight_number,
        outcome_known_at as event_timestamp,
        count(*) as flights,
        sum(is_late) as late_flights
    from {{ ref("int_flight_outcomes") }}
    where is_late is not null and {{ since_held("scheduled_departure_at", days_before=30) }}
    group by carrier, flight_number, event_timestamp
),

looked_back as (
    select
        *,
        sum(flights) over last_28_days as flights_28d,
        sum(late_flights) over last_28_days as late_flights_28d
    from outcomes
    window last_28_days as (
        partition by carrier, flight_number
        order by event_timestamp
        -- Open at its start, as the other windows are: instants are whole minutes.
        range between interval '40319 minutes' preceding and current row
    )
)

select
    carrier,
    flight_number,
    event_timestamp,
    {{ smoothed_late_rate("late_flights_28d", "flights_28d") }} as flight_number_late_rate_28d,
    cast(case when late_flights > 0 then 1 else 0 end as double) as last_is_late,
    cast(flights_28d as double) as outcomes_28d
from looked_back
where {{ since_held("event_timestamp") }}
