{{ late_rates(
    keys=["destination"],
    prefix="destination",
    step=60,
    windows={"24h": 1440, "7d": 10080, "28d": 40320},
    delays={
        "known_at": "arrived_at",
        "means": {
            "mean_arrival_delay": {"minutes": "arrival_delay_minutes", "windows": {"3h": 180, "24h": 1440}},
            "mean_minutes_made_up": {
                "minutes": "departure_delay_minutes - arrival_delay_minutes",
                "windows": {"24h": 1440},
            },
        },
    },
) }}
