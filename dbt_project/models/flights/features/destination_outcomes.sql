{#- Nothing new is heard of a flight two days after its schedule: a test of stg_flights holds that. -#}
{%- set read_back = since_held("scheduled_departure_at", days_before=30) -%}
{%- set rows -%}
(
    select
        destination,
        outcome_known_at as known_at,
        is_late,
        null as arrival_delay_minutes,
        null as departure_delay_minutes
    from {{ ref("int_flight_outcomes") }}
    where {{ read_back }}
    union all
    select
        destination,
        arrived_at as known_at,
        null as is_late,
        arrival_delay_minutes,
        departure_delay_minutes
    from {{ ref("int_flights") }}
    where {{ read_back }}
)
{%- endset -%}
{{ known_aggregates(
    rows=rows,
    keys=["destination"],
    step=60,
    values=[
        {
            "name": "destination_late_rate",
            "aggregate": "smoothed",
            "of": "is_late",
            "windows": {"24h": 1440, "7d": 10080, "28d": 40320},
            "towards": var("base_rate"),
            "weight": var("base_weight"),
        },
        {
            "name": "destination_mean_arrival_delay",
            "aggregate": "mean",
            "of": "arrival_delay_minutes",
            "windows": {"3h": 180, "24h": 1440},
        },
        {
            "name": "destination_mean_minutes_made_up",
            "aggregate": "mean",
            "of": "departure_delay_minutes - arrival_delay_minutes",
            "windows": {"24h": 1440},
        },
    ],
) }}
