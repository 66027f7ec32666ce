{{ late_rates(
    keys=["destination"],
    prefix="destination",
    step=60,
    windows={"24h": 1440, "7d": 10080, "28d": 40320},
) }}
