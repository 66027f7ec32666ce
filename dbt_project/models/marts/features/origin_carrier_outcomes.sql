{{ late_rates(
    keys=["origin", "carrier"],
    prefix="origin_carrier",
    step=60,
    windows={"3h": 180, "24h": 1440, "7d": 10080},
) }}
