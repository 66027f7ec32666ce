with outcomes as (
    {{ as_known_then(
        ref("flight_outcomes"),
        key="flight_id",
        labels=["is_late", "label_known_at"],
        prediction_time="prediction_time",
        as_of=as_of("flight_delay"),
    ) }}
),

windows as (
    select * from {{ source("control", "windows") }}
    where problem = 'flight_delay'
)

select
    outcomes.flight_id,
    outcomes.origin,
    outcomes.carrier,
    outcomes.destination,
    outcomes.flight_number,
    outcomes.tail_number,
    outcomes.scheduled_departure_at,
    outcomes.scheduled_arrival_at,
    outcomes.scheduled_hour,
    outcomes.prediction_time,
    outcomes.is_late,
    outcomes.label_known_at,
    windows.split
from outcomes
inner join windows
    on
        outcomes.prediction_time >= windows.starts_at
        and outcomes.prediction_time < windows.ends_at
        and outcomes.label_known_at <= windows.ends_at
        and outcomes.label_known_at <= windows.as_of
