"""The one way in which on-demand features are computed, for training and for serving alike. Reads no store."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hindcast.errors import HindcastError
from hindcast.features.feast_imports import OnDemandFeatureView

PREDICTION_TIME = "prediction_time"
"""A field of a request source that is given to every view that asks for it, as an instant in UTC."""


def input_features(view: OnDemandFeatureView) -> list[tuple[str, str]]:
    """The features it is computed from: (feature view, feature)."""
    projections = view.source_feature_view_projections.values()
    return [(projection.name, field.name) for projection in projections for field in projection.features]


def request_fields(view: OnDemandFeatureView) -> list[str]:
    """What it needs from the request (or the entity rows) itself, less the prediction time, which each has."""
    return [name for name in _fields(view) if name != PREDICTION_TIME]


def compute(
    view: OnDemandFeatureView,
    features: Mapping[tuple[str, str], Sequence[Any]],
    request: Mapping[str, Sequence[Any]],
    instants: Sequence[datetime],
) -> dict[str, list[Any]]:
    """Runs the view's function on lists of equal length, None where a value is missing.

    Args:
        view: Written with `mode="python"`.
        features: By (feature view, feature), at least those of `input_features`.
        request: At least those of `request_fields`.
        instants: Prediction times, in UTC where they have no time zone.

    Returns:
        The view's features, each a list as long as the inputs.

    Raises:
        HindcastError: The view is of another mode, or its function returns something else than it declares.
    """
    if str(getattr(view.mode, "value", view.mode)) != "python" or view.singleton:
        raise HindcastError(f"On-demand view {view.name}: write it with mode='python', over lists.")
    inputs: dict[str, list[Any]] = {field: list(request[field]) for field in request_fields(view)}
    if PREDICTION_TIME in _fields(view):
        inputs[PREDICTION_TIME] = [_in_utc(instant) for instant in instants]
    for source, feature in input_features(view):
        inputs[feature] = inputs[f"{source}__{feature}"] = list(features[source, feature])
    rows = max(map(len, inputs.values()), default=0)
    assert view.feature_transformation is not None
    outputs = view.feature_transformation.udf(inputs)
    for field in view.features:
        if len(outputs.get(field.name, ())) != rows:
            raise HindcastError(f"On-demand view {view.name} must return {field.name} as a list of {rows} values.")
    return {field.name: list(outputs[field.name]) for field in view.features}


def _fields(view: OnDemandFeatureView) -> list[str]:
    return [field.name for source in view.source_request_sources.values() for field in source.schema]


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
