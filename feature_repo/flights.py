"""What Feast knows of the flights: one feature view per table of dbt_project/models/flights/features.

A view's TTL says how old a row may be and still be used. It is longer than the step at which the table gets rows, or
features would come and go between two of them. Feast imports each file of this folder by its bare name: one per domain,
and nothing else.
"""

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, String, from_value_type

from hindcast.features.lake_source import LakeSource

OWNER = "flight data team"

flight = Entity(
    name="flight", join_keys=["flight_id"], value_type=ValueType.STRING, description="One scheduled departure."
)
aircraft = Entity(
    name="aircraft", join_keys=["tail_number"], value_type=ValueType.STRING, description="An aircraft, by registration."
)
origin = Entity(name="origin", value_type=ValueType.STRING, description="The airport of departure.")
destination = Entity(name="destination", value_type=ValueType.STRING, description="The airport of arrival.")
carrier = Entity(name="carrier", value_type=ValueType.STRING, description="The airline.")
flight_number = Entity(
    name="flight_number", value_type=ValueType.INT32, description="The carrier's number for a flight, day after day."
)


def number(name: str, description: str) -> Field:
    return Field(name=name, dtype=Float64, description=description)


def category(name: str, description: str) -> Field:
    return Field(name=name, dtype=String, description=description)


def view(
    name: str, entities: list[Entity], ttl: timedelta, topic: str, description: str, features: list[Field]
) -> FeatureView:
    """The view over the table of the same name."""
    keys = [Field(name=entity.join_key, dtype=from_value_type(entity.value_type)) for entity in entities]
    return FeatureView(
        name=name,
        entities=entities,
        ttl=ttl,
        schema=[*keys, *features],
        source=LakeSource(name=name, table=f"features.{name}", description=description, owner=OWNER),
        description=description,
        tags={"topic": topic},
        owner=OWNER,
    )


def late_rates(prefix: str, whose: str, windows: list[str]) -> list[Field]:
    return [
        number(f"{prefix}_late_rate_{window}", f"Late rate of {whose} outcomes known in the last {window}.")
        for window in windows
    ]


# Published a week before departure; asked for until then.
flight_schedule = view(
    "flight_schedule",
    [flight],
    timedelta(days=8),
    "schedule",
    "What a flight's schedule says.",
    [
        category("carrier_code", "The carrier, as a category."),
        category("origin_code", "The airport of departure, as a category."),
        number("minute_of_day", "Scheduled departure, minutes after local midnight."),
        number("weekday", "Local day of the week of departure, Monday 1 to Sunday 7."),
        number("days_to_holiday", "Days to the nearest public holiday of the United States, at most 7."),
        number("block_minutes", "Scheduled minutes from departure to arrival."),
        number("distance_miles", "Distance flown, miles."),
        number("departures_within_hour", "Flights scheduled out of the airport within an hour before or after."),
        number("scheduled_departure_minute", "Scheduled departure, minutes since 1970 (UTC); no feature itself."),
    ],
)

# The register is read once and stays true.
aircraft_profile = view(
    "aircraft_profile",
    [aircraft],
    timedelta(days=4000),
    "aircraft",
    "What the register says about an aircraft.",
    [
        number("age_years", "Years since it was built; missing where the registration isn't plausible."),
        number("seats", "Seats; missing where the registration isn't plausible."),
    ],
)

# Hourly. Weather of six hours ago is better than none; older than that it is none.
origin_weather = view(
    "origin_weather",
    [origin],
    timedelta(hours=6),
    "weather",
    "The last hour's weather at the airport of departure, as known.",
    [
        number("temperature", "Degrees Fahrenheit."),
        number("dew_point", "Degrees Fahrenheit."),
        number("humidity", "Relative humidity, percent."),
        number("wind_direction", "Where the wind comes from, degrees."),
        number("wind_speed", "Miles per hour."),
        number("wind_gust", "Strongest gust, miles per hour."),
        number("visibility", "Miles."),
        number("min_visibility_3h", "Lowest visibility of the last three hours, miles."),
        number("rain_3h", "Rain of the last three hours, inches."),
        number("pressure", "Millibars."),
        number("pressure_change_6h", "Pressure against that of six hours before, millibars."),
        number("missing_count", "How many of the hour's readings are missing."),
        number("pressure_missing", "1 where the pressure is missing (as it often is in rain), else 0."),
    ],
)

# Every quarter of an hour. It changes fast: two hours on it says nothing.
origin_state = view(
    "origin_state",
    [origin],
    timedelta(hours=2),
    "operations",
    "How departures run at the airport at the instant.",
    [
        number("departed_1h", "Flights that departed in the last hour."),
        number("mean_departure_delay_1h", "Their mean delay, minutes."),
        number("mean_departure_delay_3h", "Mean delay of the last three hours' departures, minutes."),
        number("overdue_count", "Flights past schedule by 15 minutes or more that have not departed."),
        number("overdue_minutes", "Mean minutes since the scheduled departure of the overdue flights."),
        *late_rates("origin", "the airport's", ["3h", "24h", "7d"]),
    ],
)

# Hourly (routes: every three hours), so six hours bridge an outage of the feed.
OUTCOMES = timedelta(hours=6)

carrier_outcomes = view(
    "carrier_outcomes",
    [carrier],
    OUTCOMES,
    "outcomes",
    "How late the carrier's flights were.",
    late_rates("carrier", "the carrier's", ["3h", "24h", "7d", "28d"]),
)

origin_carrier_outcomes = view(
    "origin_carrier_outcomes",
    [origin, carrier],
    OUTCOMES,
    "outcomes",
    "How late the carrier's flights from the airport were.",
    [
        *late_rates("origin_carrier", "the carrier's (from the airport)", ["3h", "24h", "7d"]),
        number("origin_carrier_mean_departure_delay_3h", "Mean delay of its last three hours' departures, minutes."),
    ],
)

destination_outcomes = view(
    "destination_outcomes",
    [destination],
    OUTCOMES,
    "outcomes",
    "How late flights to the destination were.",
    [
        *late_rates("destination", "the destination's", ["24h", "7d", "28d"]),
        number("destination_mean_arrival_delay_3h", "Mean delay of the last three hours' arrivals there, minutes."),
        number("destination_mean_arrival_delay_24h", "The same, over 24 hours."),
        number(
            "destination_mean_minutes_made_up_24h",
            "Minutes by which the last 24 hours' arrivals there were less late than when they departed, on average.",
        ),
    ],
)

route_outcomes = view(
    "route_outcomes",
    [origin, destination],
    OUTCOMES,
    "outcomes",
    "How late the route's flights were.",
    late_rates("route", "the route's", ["24h", "7d", "28d"]),
)

# A row per outcome, counting 28 days back: later than that nothing of it counts.
flight_number_outcomes = view(
    "flight_number_outcomes",
    [carrier, flight_number],
    timedelta(days=28),
    "outcomes",
    "How late the flight of this number was on other days.",
    [
        *late_rates("flight_number", "the number's", ["28d"]),
        number("last_is_late", "1 where the last known outcome was late, else 0."),
        number("outcomes_28d", "How many outcomes the rate counts."),
    ],
)

# A row per event. An aircraft that wasn't heard of for a day flies somewhere else.
aircraft_state = view(
    "aircraft_state",
    [aircraft],
    timedelta(hours=24),
    "operations",
    "The aircraft's newest leg out of New York: overdue, under way or arrived.",
    [
        number(
            "leg_expected_arrival_minute", "Arrival known or expected, minutes since 1970 (UTC); no feature itself."
        ),
        number("leg_block_minutes", "Scheduled minutes of the leg."),
        number("leg_departure_delay", "Minutes the leg departed late; 15 while it is overdue."),
        number("leg_overdue", "1 where it had not departed, else 0."),
        number("leg_arrived", "1 where it had arrived, else 0."),
    ],
)


@on_demand_feature_view(
    sources=[
        aircraft_state[["leg_expected_arrival_minute", "leg_block_minutes"]],
        flight_schedule[["scheduled_departure_minute"]],
    ],
    schema=[Field(name=name, dtype=Float64) for name in ("inbound_slack_minutes", "inbound_leg_missing")],
    mode="python",
    # Here rather than with the fields: Feast refuses to infer those of an on-demand view once they are described.
    description="Whether the aircraft can be back from its last leg in time. inbound_slack_minutes: minutes to spare "
    "if it flies back at once and turns round in an hour, at most 600 either way; inbound_leg_missing: 1 where the "
    "aircraft wasn't heard of for a day or isn't known, else 0.",
    tags={"topic": "operations"},
    owner=OWNER,
)
def inbound_leg(inputs: dict[str, Any]) -> dict[str, Any]:
    # Feast keeps the source of this function alone: it can use nothing from outside.
    slack: list[float | None] = []
    for departure, arrival, block in zip(
        inputs["scheduled_departure_minute"],
        inputs["leg_expected_arrival_minute"],
        inputs["leg_block_minutes"],
        strict=True,
    ):
        if departure is None or arrival is None or block is None:
            slack.append(None)
        else:
            slack.append(float(min(600, max(-600, departure - arrival - block - 60))))
    missing = [1.0 if arrival is None else 0.0 for arrival in inputs["leg_expected_arrival_minute"]]
    return {"inbound_slack_minutes": slack, "inbound_leg_missing": missing}


def without_helpers(of: FeatureView) -> FeatureView:
    """The view less the columns that only on-demand features need."""
    return of[[feature.name for feature in of.features if not feature.name.endswith("_minute")]]


FEATURES = [
    # Not aircraft_profile: it is missing where the tail number is, which it only is on cancelled flights. Its
    # columns bring nothing on the other flights; on all of them they tell whether the flight flies.
    without_helpers(flight_schedule),
    origin_weather,
    origin_state,
    carrier_outcomes,
    origin_carrier_outcomes,
    destination_outcomes,
    route_outcomes,
    flight_number_outcomes,
    without_helpers(aircraft_state),
    inbound_leg,
]


def service(problem: str) -> FeatureService:
    """All that is known of a flight two hours before its departure: each problem asks then, of the same flights."""
    return FeatureService(
        name=problem,
        features=FEATURES,
        description="What is known of a flight two hours before its departure.",
        tags={"problem": problem},
        owner=OWNER,
    )


flight_delay = service("flight_delay")
arrival_delay = service("arrival_delay")
flight_outcome = service("flight_outcome")
