"""Compares what one model served with what the lake says: feature by feature, view by view, and what it predicted.

Features are computed again by `recomputing`; what several models' requests add up to is in `parity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.artefacts import require_json
from hindcast.monitoring.recomputing import Recomputing, Requests, known_at
from hindcast.package.model import SAMPLE, ServedModel
from hindcast.sql import without_zone
from hindcast.tasks.task import Predictions
from hindcast.training.training_data import columns

TOLERANCE = 1e-6
"""By how much a number of a logged prediction may differ from what its package says of the same features, as
`Task.distance` has it: the difference of a probability; of a value, the share of the labels' largest."""

EXAMPLES = 3

_NO_STATE = "answered from an online store that doesn't say until when it had been filled"
_PASSED = "asked about an instant that the online store had passed, where it holds the newest rows alone"
_GONE = "the lake no longer holds the snapshot that the online store was filled from"
_UNREADABLE = "at the snapshot that the online store was filled from, the lake lacks a table or column of a view"


@dataclass(frozen=True)
class Found:
    """What one model's requests show.

    Attributes:
        requests: One row each: `id`, `prediction_time`, `reason` (null where it was checked), and what was measured
            (null where it wasn't; `skew_flips` and `stale_flips` also where the model decides nothing).
        features: One row per feature, with counts of requests.
        views: The same per feature view.
        examples: Of skew.
        quantity: What the model predicts, as `Task.quantity` says it.
    """

    requests: pl.DataFrame
    features: pl.DataFrame = field(default_factory=pl.DataFrame)
    views: pl.DataFrame = field(default_factory=pl.DataFrame)
    examples: list[dict[str, Any]] = field(default_factory=list)
    quantity: str | None = None


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
    quantity, _ = model.task.quantity
    told = requests.said["features_as_of"].is_not_null()
    scale = require_json(model.folder / SAMPLE).get("scale", 1.0)
    again = _predict(model, requests.features)
    apart = model.task.distance(again, _array(requests, "served"), scale)
    requests = requests.saying(
        again=pl.Series(again),
        difference=pl.Series(apart.max(axis=1)),
        predicted_otherwise=pl.Series(_beyond(apart).any(axis=1)),
        reason=pl.when(~told).then(pl.lit(_NO_STATE)),
    )
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
        return Found(_plain(pl.concat(left_out)), quantity=quantity)
    fresh = recomputing.features(connection, requests, requests.said["prediction_time"], newest)
    names = model.signature.names
    skewed = _differ(requests.features, then)
    stale = _differ(then.select(names), fresh.select(names))
    served, again = _array(requests, "served"), _array(requests, "again")
    by_then = _where(skewed, model, then, again)
    by_now = _where(stale, model, fresh, by_then)
    wrong = [_beyond(model.task.distance(said, served, scale)) for said in (again, by_then)]
    otherwise = wrong[0] | wrong[1]
    said = requests.said.with_columns(
        skewed=skewed,
        rewritten=_differ(then, today),
        stale=stale,
        predicted_otherwise=pl.Series(otherwise.any(axis=1)),
        skew_change=pl.when(skewed).then(pl.Series(model.task.change(served, by_then))),
        skew_flips=_flips(model, served, by_then),
        stale_change=pl.Series(model.task.change(by_then, by_now)),
        stale_flips=_flips(model, by_then, by_now),
        age=(pl.col("prediction_time") - pl.col("features_as_of")).dt.total_microseconds() / 1e6,
    )
    return Found(
        _plain(pl.concat([*left_out, said], how="diagonal_relaxed")),
        pl.DataFrame([_count(name, requests.features, then, today, fresh) for name in names]),
        pl.DataFrame(
            [
                {"name": view, "skewed": requests.features[known_at(view)].ne_missing(then[known_at(view)]).sum()}
                for view in recomputing.views
            ]
        ),
        _examples(model, requests, then, by_then, otherwise),
        quantity,
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


def _plain(said: pl.DataFrame) -> pl.DataFrame:
    """Without predictions, whose length is the model's own."""
    return said.drop("served", "again")


def _array(requests: Requests, column: str) -> Predictions:
    return requests.said[column].to_numpy()


def _predict(model: ServedModel, features: pl.DataFrame) -> Predictions:
    return model.predict(model.matrix(columns(features, model.signature.features)))


def _where(changed: pl.Series, model: ServedModel, features: pl.DataFrame, before: Predictions) -> Predictions:
    """The predictions, made again where the features have changed."""
    after = before.copy()
    after[changed.to_numpy()] = _predict(model, features.filter(changed))
    return after


def _beyond(apart: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ~(apart <= TOLERANCE)


def _flips(model: ServedModel, one: Predictions, other: Predictions) -> pl.Series | pl.Expr:
    """Whether each row is decided otherwise; null where the task decides nothing."""
    decided = [model.task.decide(said, model.signature.calibration) for said in (one, other)]
    if decided[0] is None or decided[1] is None:
        return pl.lit(None, dtype=pl.Boolean)
    return pl.Series(decided[0] != decided[1])


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


def _examples(
    model: ServedModel, requests: Requests, then: pl.DataFrame, by_then: Predictions, wrong: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """A few of each sort of skew: what was served and what it should have been.

    Args:
        model: Who answered.
        requests: As they were served.
        then: Features, recomputed.
        by_then: What the package says of these, shape (n, outputs).
        wrong: Which numbers of the served predictions are not what the package says, shape (n, outputs).
    """
    said, predicted = requests.said, _array(requests, "served")
    shown = [
        (name, requests.features[name], then[name], requests.features[name].ne_missing(then[name]).arg_true())
        for name in then.columns
    ]
    shown += [
        (name, pl.Series(predicted[:, number]), pl.Series(by_then[:, number]), pl.Series(wrong[:, number]).arg_true())
        for number, name in enumerate(model.task.outputs)
    ]
    return [
        {
            "request": said["id"][row],
            "model_version": model.version,
            "prediction_time": utc(said["prediction_time"][row]),
            "what": name,
            "served": _shown(served[row]),
            "recomputed": _shown(expected[row]),
        }
        for name, served, expected, rows in shown
        for row in rows.head(EXAMPLES)
    ]


def _shown(value: Any) -> Any:
    return utc(value) if isinstance(value, datetime) else value


def utc(instant: Any) -> str:
    return f"{instant.isoformat()}Z"
