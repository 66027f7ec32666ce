"""Compares what one model served with what the lake says: feature by feature, view by view, and what it predicted.

Features are computed again by `recomputing`; what several models' requests add up to is in `parity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from hindcast.monitoring.recomputing import Recomputing, Requests, known_at
from hindcast.package.model import ServedModel
from hindcast.sql import without_zone
from hindcast.training.training_data import columns

TOLERANCE = 1e-6
"""By how much a logged probability may differ from what its package says of the same features."""

EXAMPLES = 3

_NO_STATE = "answered from an online store that doesn't say until when it had been filled"
_REDECLARED = "the model's features have been defined otherwise since it was made"
_PASSED = "asked about an instant that the online store had passed, where it holds the newest rows alone"
_GONE = "the lake no longer holds the snapshot that the online store was filled from"
_UNREADABLE = "at the snapshot that the online store was filled from, the lake lacks a table or column of a view"


@dataclass(frozen=True)
class Found:
    """What one model's requests show.

    Attributes:
        requests: One row each: `id`, `prediction_time`, `reason` (null where it was checked), and what was measured.
        features: One row per feature, with counts of requests.
        views: The same per feature view.
        examples: Of skew.
    """

    requests: pl.DataFrame
    features: pl.DataFrame = field(default_factory=pl.DataFrame)
    views: pl.DataFrame = field(default_factory=pl.DataFrame)
    examples: list[dict[str, Any]] = field(default_factory=list)


def compare_served(
    connection: duckdb.DuckDBPyConnection,
    made: Mapping[int, datetime],
    model: ServedModel,
    recomputing: Recomputing,
    requests: Requests,
) -> Found:
    """Compares one model's requests.

    Args:
        connection: To the lake.
        made: The lake's snapshots, and when each was made.
        model: Who answered.
        recomputing: Its features.
        requests: At least one.
    """
    told = requests.said["features_as_of"].is_not_null()
    requests = requests.saying(again=_predict(model, requests.features), reason=pl.when(~told).then(pl.lit(_NO_STATE)))
    left_out = [requests.where(~told).said]
    requests, newest = requests.where(told), max(made)
    if len(requests):
        known_by = requests.said.select(pl.min_horizontal("features_as_of", "prediction_time")).to_series()
        today = recomputing.features(connection, requests, known_by, newest)
        requests, then = _as_of_its_snapshot(connection, made, recomputing, requests, known_by, today)
        checked = requests.said["reason"].is_null()
        left_out.append(requests.where(~checked).said)
        requests, then, today = requests.where(checked), then.filter(checked), today.filter(checked)
    if not len(requests):
        return Found(pl.concat(left_out))
    fresh = recomputing.features(connection, requests, requests.said["prediction_time"], newest)
    names = model.signature.names
    skewed = _differ(requests.features, then)
    stale = _differ(then.select(names), fresh.select(names))
    threshold = model.signature.threshold
    said = requests.said.with_columns(
        skewed=skewed,
        rewritten=_differ(then, today),
        stale=stale,
        by_then=_where(skewed, model, then, requests.said["again"]),
    )
    said = said.with_columns(fresh=_where(stale, model, fresh, said["by_then"]))
    decided = {column: pl.col(column) >= threshold for column in ("probability", "by_then", "fresh")}
    said = said.with_columns(
        skew_change=pl.when("skewed").then(pl.col("by_then") - pl.col("probability")),
        skew_flips=decided["by_then"] != decided["probability"],
        stale_change=pl.col("fresh") - pl.col("by_then"),
        stale_flips=decided["fresh"] != decided["by_then"],
        age=(pl.col("prediction_time") - pl.col("features_as_of")).dt.total_microseconds() / 1e6,
    )
    requests = replace(requests, said=said)
    return Found(
        pl.concat([*left_out, said], how="diagonal_relaxed"),
        pl.DataFrame([_count(name, requests.features, then, today, fresh) for name in names]),
        pl.DataFrame(
            [
                {"name": view, "skewed": requests.features[known_at(view)].ne_missing(then[known_at(view)]).sum()}
                for view in recomputing.views
            ]
        ),
        _examples(model, requests, then),
    )


def _as_of_its_snapshot(
    connection: duckdb.DuckDBPyConnection,
    made: Mapping[int, datetime],
    recomputing: Recomputing,
    requests: Requests,
    known_by: pl.Series,
    today: pl.DataFrame,
) -> tuple[Requests, pl.DataFrame]:
    """What the lake says of the store's state: today where that is what was served, else at the snapshot that it had.

    Only what differs today is read again: a join per snapshot, and after weeks of hourly filling there are hundreds.

    Returns:
        The requests, with the reason why it can't be said of some, and the features.
    """
    made_at = pl.col("features_snapshot").replace_strict(
        list(made), [without_zone(instant) for instant in made.values()], default=None
    )
    differs = _differ(requests.features, today)
    requests = requests.saying(
        reason=pl.when(~differs)
        .then(None)
        .when(recomputing.redeclared)
        .then(pl.lit(_REDECLARED))
        .when(pl.col("features_as_of") > pl.col("prediction_time"))
        .then(pl.lit(_PASSED))
        # One that is younger than the answer is of another lake, which was made in the place of that one.
        .when(~(made_at <= pl.col("received_at")).fill_null(value=False))
        .then(pl.lit(_GONE))
    )
    then = today.with_row_index("row")
    again = requests.said.with_row_index("row").filter(differs & requests.said["reason"].is_null())
    for (snapshot,), rows in again.group_by("features_snapshot"):
        these = then["row"].is_in(rows["row"].implode())
        try:
            found = recomputing.features(connection, requests.where(these), known_by.filter(these), int(str(snapshot)))
        except duckdb.Error:
            requests = requests.saying(reason=pl.when(these).then(pl.lit(_UNREADABLE)).otherwise("reason"))
        else:
            then = pl.concat([then.filter(~these), rows.select("row").hstack(found)]).sort("row")
    return requests, then.drop("row")


def _differ(one: pl.DataFrame, other: pl.DataFrame) -> pl.Series:
    """Per row whether any column differs; two missing values are equal."""
    return pl.select(pl.any_horizontal(one[name].ne_missing(other[name]) for name in one.columns)).to_series()


def _predict(model: ServedModel, features: pl.DataFrame) -> pl.Series:
    return pl.Series(model.predict(model.matrix(columns(features, model.signature.features))), dtype=pl.Float64)


def _where(changed: pl.Series, model: ServedModel, features: pl.DataFrame, before: pl.Series) -> pl.Series:
    """The probabilities, predicted again where the features have changed."""
    return before.scatter(changed.arg_true(), _predict(model, features.filter(changed)))


def _count(
    name: str, served: pl.DataFrame, then: pl.DataFrame, today: pl.DataFrame, fresh: pl.DataFrame
) -> dict[str, Any]:
    old, new = then[name], fresh[name]
    stale, both = old.ne_missing(new), old.is_not_null() & new.is_not_null()
    numeric = old.dtype.is_numeric()
    return {
        "name": name,
        "cells": len(old),
        "skewed": served[name].ne_missing(old).sum(),
        "rewritten": old.ne_missing(today[name]).sum(),
        "stale": stale.sum(),
        "missing": (stale & ~both).sum(),
        "numbers": (stale & both).sum() if numeric else 0,
        "distance": float((new - old).filter(both).abs().sum()) if numeric else 0.0,
    }


def _examples(model: ServedModel, requests: Requests, then: pl.DataFrame) -> list[dict[str, Any]]:
    """A few of each sort of skew: what was served and what it should have been."""
    by_column = {name: (requests.features[name], then[name]) for name in then.columns}
    wrong = {name: served.ne_missing(expected) for name, (served, expected) in by_column.items()}
    said = requests.said
    by_column["probability"] = said["probability"], said["by_then"]
    wrong["probability"] = said.select(predicted_otherwise()).to_series()
    return [
        {
            "request": said["id"][row],
            "model_version": model.version,
            "prediction_time": utc(said["prediction_time"][row]),
            "what": name,
            "served": _shown(served[row]),
            "recomputed": _shown(expected[row]),
        }
        for name, (served, expected) in by_column.items()
        for row in wrong[name].arg_true().head(EXAMPLES)
    ]


def predicted_otherwise() -> pl.Expr:
    """Whether the package says otherwise of the features than it is logged to have said; unknown counts as no."""
    beyond = [~((pl.col(column) - pl.col("probability")).abs() <= TOLERANCE) for column in ("again", "by_then")]
    return pl.any_horizontal(beyond).fill_null(value=False)


def _shown(value: Any) -> Any:
    return utc(value) if isinstance(value, datetime) else value


def utc(instant: Any) -> str:
    return f"{instant.isoformat()}Z"
