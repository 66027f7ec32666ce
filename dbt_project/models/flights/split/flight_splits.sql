{{ split_rows("flight_delay", ref("flight_outcomes"), key="flight_id", label="is_late") }}
