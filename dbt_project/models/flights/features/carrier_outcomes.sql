{{ known_aggregates(
    rows=ref("int_flight_outcomes"),
    keys=["carrier"],
    values=[late_rate("carrier", {"3h": 180, "24h": 1440, "7d": 10080, "28d": 40320})],
    step=60,
    known_at="outcome_known_at",
) }}
