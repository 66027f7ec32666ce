{#- Nothing new is heard of a flight two days after its schedule: a test of stg_flights holds that. -#}
{%- set read_back = since_held("scheduled_departure_at", days_before=9) -%}
{%- set rows -%}
(
    select
        origin,
        carrier,
        outcome_known_at as known_at,
        is_late,
        null as departure_delay_minutes
    from {{ ref("int_flight_outcomes") }}
    where {{ read_back }}
    union all
    select
        origin,
        carrier,
        departed_at as known_at,
        null as is_late,
        departure_delay_minutes
    from {{ ref("int_flights") }}
    where {{ read_back }}
)
{%- endset -%}
{{ known_aggregates(
    rows=rows,
    keys=["origin", "carrier"],
    step=60,
    values=[
        {
            "name": "origin_carrier_late_rate",
            "aggregate": "smoothed",
            "of": "is_late",
            "windows": {"3h": 180, "24h": 1440, "7d": 10080},
            "towards": var("base_rate"),
            "weight": var("base_weight"),
        },
        {
            "name": "origin_carrier_mean_departure_delay",
            "aggregate": "mean",
            "of": "departure_delay_minutes",
            "windows": {"3h": 180},
        },
    ],
) }}
