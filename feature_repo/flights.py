"""What Feast knows of the flights: one feature view per table of dbt_project/models/flights/features.

A view's TTL says how old a row may be and still be used. It is longer than the step at which the table gets rows, or
features would come and go between two of them. Feast imports each file of this folder by its bare name: one per domain,
and nothing else.
"""

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from hindcast.features.described import DescribedTables

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


tables = DescribedTables(__file__, owner=OWNER)


def view(name: str, entities: list[Entity], ttl: timedelta, topic: str) -> FeatureView:
    return tables.view(name, entities, ttl, tags={"topic": topic})


# Published a week before departure; asked for until then.
flight_schedule = view("flight_schedule", [flight], timedelta(days=8), "schedule")

# The register is read once and stays true.
aircraft_profile = view("aircraft_profile", [aircraft], timedelta(days=4000), "aircraft")

# Hourly. Weather of six hours ago is better than none; older than that it is none.
origin_weather = view("origin_weather", [origin], timedelta(hours=6), "weather")

# Every quarter of an hour. It changes fast: two hours on it says nothing.
origin_state = view("origin_state", [origin], timedelta(hours=2), "operations")

# Hourly (routes: every three hours), so six hours bridge an outage of the feed.
OUTCOMES = timedelta(hours=6)

carrier_outcomes = view("carrier_outcomes", [carrier], OUTCOMES, "outcomes")

origin_carrier_outcomes = view("origin_carrier_outcomes", [origin, carrier], OUTCOMES, "outcomes")

destination_outcomes = view("destination_outcomes", [destination], OUTCOMES, "outcomes")

route_outcomes = view("route_outcomes", [origin, destination], OUTCOMES, "outcomes")

# A row per outcome, counting 28 days back: later than that nothing of it counts.
flight_number_outcomes = view("flight_number_outcomes", [carrier, flight_number], timedelta(days=28), "outcomes")

# A row per event. An aircraft that wasn't heard of for a day flies somewhere else.
aircraft_state = view("aircraft_state", [aircraft], timedelta(hours=24), "operations")


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
