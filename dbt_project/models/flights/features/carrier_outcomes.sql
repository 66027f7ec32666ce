{{ late_rates(
    keys=["carrier"],
    prefix="carrier",
    step=60,
    windows={"3h": 180, "24h": 1440, "7d": 10080, "28d": 40320},
) }}
