{{ split_rows("flight_outcome", ref("flight_outcome_classes"), key="flight_id", label="outcome") }}
