{{ known_aggregates(
    rows=ref("int_flight_outcomes"),
    keys=["origin", "destination"],
    values=[late_rate("route", {"24h": 1440, "7d": 10080, "28d": 40320})],
    step=180,
    known_at="outcome_known_at",
) }}
