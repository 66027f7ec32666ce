{#- Nothing new is heard of a flight two days after its schedule: a test of stg_flights holds that. -#}
{%- set read_back = since_held("scheduled_departure_at", days_before=30) -%}
{%- set rows -%}
(
    select
        carrier,
        outcome_known_at as known_at,
        is_late
    from {{ ref("int_flight_outcomes") }}
    where {{ read_back }}
)
{%- endset -%}
{{ known_aggregates(
    rows=rows,
    keys=["carrier"],
    step=60,
    values=[
        {
            "name": "carrier_late_rate",
            "aggregate": "smoothed",
            "of": "is_late",
            "windows": {"3h": 180, "24h": 1440, "7d": 10080, "28d": 40320},
            "towards": var("base_rate"),
            "weight": var("base_weight"),
        },
    ],
) }}
