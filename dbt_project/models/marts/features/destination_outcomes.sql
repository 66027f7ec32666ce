{{ late_rates(
    keys=["destination"],
    prefix="destination",
    step=60,
    windows={"24h": 1440, "7d": 10080, "28d": 40320},
    delays={
        "name": "mean_arrival_delay",
        "known_at": "arrived_at",
        "minutes": "arrival_delay_minutes",
        "windows": {"3h": 180, "24h": 1440},
    },
) }}
