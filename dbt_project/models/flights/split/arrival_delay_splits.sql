{{ split_rows("arrival_delay", ref("arrival_delays"), key="flight_id", label="arrival_delay_minutes") }}
