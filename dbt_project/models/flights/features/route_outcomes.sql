{{ late_rates(
    keys=["origin", "destination"],
    prefix="route",
    step=180,
    windows={"24h": 1440, "7d": 10080, "28d": 40320},
) }}
