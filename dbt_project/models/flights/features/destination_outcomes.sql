{%- set news -%}
    (
        select destination, outcome_known_at as known_at, is_late, null as arrival_delay, null as made_up
        from {{ ref("int_flight_outcomes") }}
        union all
        select
            destination,
            arrived_at as known_at,
            null as is_late,
            arrival_delay_minutes as arrival_delay,
            departure_delay_minutes - arrival_delay_minutes as made_up
        from {{ ref("int_flights") }}
    )
{%- endset -%}
{{ known_aggregates(
    rows=news,
    keys=["destination"],
    values=[
        late_rate("destination", {"24h": 1440, "7d": 10080, "28d": 40320}),
        {"name": "destination_mean_arrival_delay", "aggregate": "mean", "of": "arrival_delay",
         "windows": {"3h": 180, "24h": 1440}},
        {"name": "destination_mean_minutes_made_up", "aggregate": "mean", "of": "made_up", "windows": {"24h": 1440}},
    ],
    step=60,
) }}
