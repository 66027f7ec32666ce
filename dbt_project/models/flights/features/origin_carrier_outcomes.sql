{%- set news -%}
    (
        select origin, carrier, outcome_known_at as known_at, is_late, null as departure_delay
        from {{ ref("int_flight_outcomes") }}
        union all
        select origin, carrier, departed_at as known_at, null as is_late, departure_delay_minutes as departure_delay
        from {{ ref("int_flights") }}
    )
{%- endset -%}
{{ known_aggregates(
    rows=news,
    keys=["origin", "carrier"],
    values=[
        late_rate("origin_carrier", {"3h": 180, "24h": 1440, "7d": 10080}),
        {"name": "origin_carrier_mean_departure_delay", "aggregate": "mean", "of": "departure_delay",
         "windows": {"3h": 180}},
    ],
    step=60,
) }}
