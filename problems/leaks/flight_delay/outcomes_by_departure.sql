-- The features' windows and smoothing, but counted back from two hours before departure over scheduled departures.
select
    flight_id,
    (coalesce(sum(is_late) over origin_3h, 0) + 4.4)
    / (count(is_late) over origin_3h + 20) as origin_late_rate_3h,
    (coalesce(sum(is_late) over origin_24h, 0) + 4.4)
    / (count(is_late) over origin_24h + 20) as origin_late_rate_24h,
    (coalesce(sum(is_late) over origin_7d, 0) + 4.4)
    / (count(is_late) over origin_7d + 20) as origin_late_rate_7d,
    (coalesce(sum(is_late) over carrier_3h, 0) + 4.4)
    / (count(is_late) over carrier_3h + 20) as carrier_late_rate_3h,
    (coalesce(sum(is_late) over carrier_24h, 0) + 4.4)
    / (count(is_late) over carrier_24h + 20) as carrier_late_rate_24h,
    (coalesce(sum(is_late) over carrier_7d, 0) + 4.4)
    / (count(is_late) over carrier_7d + 20) as carrier_late_rate_7d,
    (coalesce(sum(is_late) over carrier_28d, 0) + 4.4)
    / (count(is_late) over carrier_28d + 20) as carrier_late_rate_28d,
    (coalesce(sum(is_late) over origin_carrier_3h, 0) + 4.4)
    / (count(is_late) over origin_carrier_3h + 20) as origin_carrier_late_rate_3h,
    (coalesce(sum(is_late) over origin_carrier_24h, 0) + 4.4)
    / (count(is_late) over origin_carrier_24h + 20) as origin_carrier_late_rate_24h,
    (coalesce(sum(is_late) over origin_carrier_7d, 0) + 4.4)
    / (count(is_late) over origin_carrier_7d + 20) as origin_carrier_late_rate_7d,
    (coalesce(sum(is_late) over destination_24h, 0) + 4.4)
    / (count(is_late) over destination_24h + 20) as destination_late_rate_24h,
    (coalesce(sum(is_late) over destination_7d, 0) + 4.4)
    / (count(is_late) over destination_7d + 20) as destination_late_rate_7d,
    (coalesce(sum(is_late) over destination_28d, 0) + 4.4)
    / (count(is_late) over destination_28d + 20) as destination_late_rate_28d,
    (coalesce(sum(is_late) over route_24h, 0) + 4.4)
    / (count(is_late) over route_24h + 20) as route_late_rate_24h,
    (coalesce(sum(is_late) over route_7d, 0) + 4.4)
    / (count(is_late) over route_7d + 20) as route_late_rate_7d,
    (coalesce(sum(is_late) over route_28d, 0) + 4.4)
    / (count(is_late) over route_28d + 20) as route_late_rate_28d,
    (coalesce(sum(is_late) over flight_number_28d, 0) + 4.4)
    / (count(is_late) over flight_number_28d + 20) as flight_number_late_rate_28d
from labeled.flight_outcomes
window
    origin_3h as (
        partition by origin order by scheduled_departure_at
        range between interval '5 hours' preceding and interval '2 hours' preceding
    ),
    origin_24h as (
        partition by origin order by scheduled_departure_at
        range between interval '26 hours' preceding and interval '2 hours' preceding
    ),
    origin_7d as (
        partition by origin order by scheduled_departure_at
        range between interval '170 hours' preceding and interval '2 hours' preceding
    ),
    carrier_3h as (
        partition by carrier order by scheduled_departure_at
        range between interval '5 hours' preceding and interval '2 hours' preceding
    ),
    carrier_24h as (
        partition by carrier order by scheduled_departure_at
        range between interval '26 hours' preceding and interval '2 hours' preceding
    ),
    carrier_7d as (
        partition by carrier order by scheduled_departure_at
        range between interval '170 hours' preceding and interval '2 hours' preceding
    ),
    carrier_28d as (
        partition by carrier order by scheduled_departure_at
        range between interval '674 hours' preceding and interval '2 hours' preceding
    ),
    origin_carrier_3h as (
        partition by origin, carrier order by scheduled_departure_at
        range between interval '5 hours' preceding and interval '2 hours' preceding
    ),
    origin_carrier_24h as (
        partition by origin, carrier order by scheduled_departure_at
        range between interval '26 hours' preceding and interval '2 hours' preceding
    ),
    origin_carrier_7d as (
        partition by origin, carrier order by scheduled_departure_at
        range between interval '170 hours' preceding and interval '2 hours' preceding
    ),
    destination_24h as (
        partition by destination order by scheduled_departure_at
        range between interval '26 hours' preceding and interval '2 hours' preceding
    ),
    destination_7d as (
        partition by destination order by scheduled_departure_at
        range between interval '170 hours' preceding and interval '2 hours' preceding
    ),
    destination_28d as (
        partition by destination order by scheduled_departure_at
        range between interval '674 hours' preceding and interval '2 hours' preceding
    ),
    route_24h as (
        partition by origin, destination order by scheduled_departure_at
        range between interval '26 hours' preceding and interval '2 hours' preceding
    ),
    route_7d as (
        partition by origin, destination order by scheduled_departure_at
        range between interval '170 hours' preceding and interval '2 hours' preceding
    ),
    route_28d as (
        partition by origin, destination order by scheduled_departure_at
        range between interval '674 hours' preceding and interval '2 hours' preceding
    ),
    flight_number_28d as (
        partition by carrier, flight_number order by scheduled_departure_at
        range between interval '674 hours' preceding and interval '2 hours' preceding
    )
