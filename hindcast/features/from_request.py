"""Features that come with the request: its own columns, and what its prediction time says. No table holds them."""

from collections.abc import Mapping
from typing import Any

from hindcast.features.feast_imports import (
    Field,
    OnDemandFeatureView,
    RequestSource,
    on_demand_feature_view,
    types,
)
from hindcast.features.on_demand import PREDICTION_TIME

PREFIX = "asked_"
"""Of the features' names, as Feast lets no feature be called as a field that it is computed from."""


def from_request(name: str, fields: Mapping[str, Any]) -> OnDemandFeatureView:
    """An on-demand view whose features are the request's own fields, each named `asked_<field>`.

    For training, they are read from the labeled table's columns of the fields' names. So the model can be asked about
    an entity that no table holds.

    Args:
        name: Of the view.
        fields: Feast type by field: String, Bool, Int32, Int64 or Float64.
    """
    view = on_demand_feature_view(
        name=name,
        sources=[
            RequestSource(name=f"{name}_fields", schema=[Field(name=field, dtype=fields[field]) for field in fields])
        ],
        schema=[Field(name=PREFIX + field, dtype=fields[field]) for field in fields],
        mode="python",
    )

    # A function of its own for each view, as Feast changes it. It keeps its source alone: it uses nothing from outside.
    def as_asked(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"asked_" + field: list(values) for field, values in inputs.items()}

    made: OnDemandFeatureView = view(as_asked)
    return made


def from_prediction_time(name: str) -> OnDemandFeatureView:
    """An on-demand view of three numbers: `when_hour`, `when_weekday` (Monday 1) and `when_day_of_year`, by UTC.

    Args:
        name: Of the view.
    """
    view = on_demand_feature_view(
        name=name,
        sources=[RequestSource(name=f"{name}_fields", schema=[Field(name=PREDICTION_TIME, dtype=types.UnixTimestamp)])],
        schema=[Field(name=f"when_{part}", dtype=types.Float64) for part in ("hour", "weekday", "day_of_year")],
        mode="python",
    )

    def when_asked(inputs: dict[str, Any]) -> dict[str, Any]:  # as above
        instants = inputs["prediction_time"]
        return {
            "when_hour": [instant.hour + instant.minute / 60 for instant in instants],
            "when_weekday": [float(instant.isoweekday()) for instant in instants],
            "when_day_of_year": [float(instant.timetuple().tm_yday) for instant in instants],
        }

    made: OnDemandFeatureView = view(when_asked)
    return made
