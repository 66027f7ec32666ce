{{ late_rates(
    keys=["origin", "carrier"],
    prefix="origin_carrier",
    step=60,
    windows={"3h": 180, "24h": 1440, "7d": 10080},
    delays={
        "known_at": "departed_at",
        "means": {"mean_departure_delay": {"minutes": "departure_delay_minutes", "windows": {"3h": 180}}},
    },
) }}
