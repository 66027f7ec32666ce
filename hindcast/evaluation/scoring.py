"""Batch scoring: a packaged model on whole periods of the labeled table, features as known at each prediction time.

Many users need no server: this is the same package, the same features and the same encoding. One entity at a time
is the service's work (`serving.predict`).
"""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from hindcast.errors import HindcastError
from hindcast.lake import Lake, current_snapshot
from hindcast.package.model import FEATURES, ServedModel
from hindcast.package.reference import History
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.sql import identifier, identifiers, without_zone
from hindcast.tables.labels import entities_as_known
from hindcast.tables.windows import labels_until, read_windows
from hindcast.tasks import problem_task
from hindcast.tasks.task import Predictions, Task
from hindcast.training.training_data import columns, labels_of

TABLE = "batch_predictions"
"""In the problem's own schema."""


def score(model: ServedModel, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds what the model says to rows that hold its features: a column per output of its task, `decision` (its code;
    null where the task decides nothing) and `model_version`."""
    missing = [name for name in model.signature.names if name not in frame.columns]
    if missing:
        raise HindcastError(f"{model.version} needs features that the rows don't have: {', '.join(missing)}.")
    said, task = model.predict(model.matrix(columns(frame, model.signature.features))), model.task
    codes = task.decide(said, model.signature.calibration)
    return frame.with_columns(
        *(pl.Series(name, said[:, number]) for number, name in enumerate(task.outputs)),
        decision=pl.lit(None, dtype=pl.Int32) if codes is None else pl.Series(codes.astype(np.int32)),
        model_version=pl.lit(model.version),
    )


def predictions(task: Task, scored: pl.DataFrame) -> Predictions:
    """What `score` has added, shape (n, outputs)."""
    return scored.select(task.outputs).to_numpy()


def summarise(problem: Problem, scored: pl.DataFrame) -> dict[str, Any]:
    """Of rows that `score` has added to: how many were decided how (`decided_<decision>`), and the mean of each output
    (`mean_<output>`)."""
    task = problem_task(problem)
    decided = scored["decision"].drop_nulls().value_counts().sort("decision")
    counts = {f"decided_{task.decision(code)}": count for code, count in decided.iter_rows()}
    return counts | {f"mean_{name}": round(float(scored[name].to_numpy().mean()), 4) for name in task.outputs}


def check_task(problem: Problem, model: ServedModel) -> None:
    """Raises:
    HindcastError: The package predicts something else than what the problem file declares now.
    """
    declared, found = problem_task(problem), model.task
    if (found.name, found.outputs) != (declared.name, declared.outputs):
        raise HindcastError(
            f"{model.version} predicts {', '.join(found.outputs)} ({found.name}), and problems/{problem.name}.yaml "
            f"declares {', '.join(declared.outputs)} ({declared.name})."
        )


def score_period(
    settings: Settings, problem: Problem, lake: Lake, model: ServedModel, starts_at: datetime, ends_at: datetime
) -> pl.DataFrame:
    """Scores every entity whose prediction time lies in a period.

    Args:
        settings: Where the feature store is.
        problem: Names the labeled table and its columns.
        lake: Holds the entities; read at its newest snapshot.
        model: The package.
        starts_at: First prediction time (UTC), included.
        ends_at: Excluded.

    Returns:
        One row per entity, ordered by prediction time, then key: the key, the prediction time, and what `score` adds.

    Raises:
        HindcastError: The lake no longer has a table or column that the package takes its features from.
    """
    with lake.reading() as connection:
        snapshot = current_snapshot(connection)
        entities = read_entities(connection, problem, model, starts_at, ends_at)
    scored = score(model, own_features(settings, problem, model, entities, snapshot))
    added = (*model.task.outputs, "decision", "model_version")
    return scored.select(problem.entity.key, problem.prediction_time.column, *added)


def evaluate_period(
    settings: Settings,
    problem: Problem,
    lake: Lake,
    model: ServedModel,
    starts_at: datetime,
    ends_at: datetime,
) -> dict[str, Any]:
    """Measures a package on a period, on the entities whose label has come.

    Args:
        settings: Where the feature store is.
        problem: Names the labeled table and its columns.
        lake: Holds the entities and labels; read at its newest snapshot.
        model: The package.
        starts_at: First prediction time (UTC), included.
        ends_at: Excluded.

    Returns:
        What `Task.measure` gives, with `details`, `model_version`, `from`, `to`, `without_label`, and
        `baseline_<metric>` and `gain_over_baseline` (of the label's history in the training window, which the package
        carries; see `Task.gain`).

    Raises:
        HindcastError: The package predicts something else, no entity of the period has a label yet, or the lake no
            longer has a table or column that the package takes its features from.
    """
    check_task(problem, model)
    label = problem.label.column
    history = History.read(model)
    more = [label, problem.label.known_at, *history.columns]
    with lake.reading() as connection:
        snapshot = current_snapshot(connection)
        entities = read_entities(connection, problem, model, starts_at, ends_at, more)
    labeled = entities.filter(pl.col(label).is_not_null())
    if labeled.is_empty():
        hint = (
            "let the clock go on, or choose an earlier period" if entities.height else "choose one that the data covers"
        )
        raise HindcastError(
            f"No label of {starts_at:%Y-%m-%d %H:%M} to {ends_at:%Y-%m-%d %H:%M} UTC is known yet "
            f"({entities.height} entities): {hint}."
        )
    scored = score(model, own_features(settings, problem, model, labeled, snapshot))
    task, labels = model.task, labels_of(problem, scored)
    said = predictions(task, scored)
    found = task.measure(labels, said)
    baseline = task.measure(labels, task.from_means(history.means(scored)))
    return found | {
        "model_version": model.version,
        "from": starts_at.isoformat(),
        "to": ends_at.isoformat(),
        "without_label": entities.height - labeled.height,
        **{f"baseline_{name}": baseline[name] for name in task.metrics},
        "gain_over_baseline": task.gain(found, baseline, problem.metrics.primary)[0],
        "details": task.details(labels, said, model.signature.calibration),
    }


def read_entities(
    connection: Any,
    problem: Problem,
    model: ServedModel,
    starts_at: datetime,
    ends_at: datetime,
    more: list[str] | None = None,
) -> pl.DataFrame:
    """Entities with prediction times from `starts_at` to `ends_at` (excluded), ordered by that time, then by key.

    Each is as it was known at its prediction time, but for its label, which is as it is known now.

    Args:
        connection: To the lake.
        problem: Names the labeled table, its key and prediction time.
        model: Its signature says which columns the features are found by.
        starts_at: UTC.
        ends_at: UTC.
        more: Columns to bring besides.
    """
    signature, time = model.signature, problem.prediction_time.column
    wanted = (signature.entity_key, time, *signature.join_keys, *signature.request_fields, *(more or ()))
    at = identifier(time)
    return connection.execute(
        f"SELECT {identifiers(dict.fromkeys(wanted))} FROM {entities_as_known(connection, problem)} "
        f"WHERE {at} >= ? AND {at} < ? ORDER BY {at}, {identifier(signature.entity_key)}",
        [without_zone(starts_at), without_zone(ends_at)],
    ).pl()


def scoring_period(lake: Lake, problem: Problem) -> tuple[datetime, datetime]:
    """From the test window's first prediction time to the last instant (UTC) of which labels are known."""
    return read_windows(lake, problem)["test"][0], labels_until(lake, problem)


def write_batch(lake: Lake, problem: Problem, scored: pl.DataFrame) -> None:
    """Replaces the problem's `batch_predictions`: one row per scored entity."""
    with lake.writing() as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{problem.name}"')
        connection.register("scored", scored.to_arrow())
        connection.execute(f"CREATE OR REPLACE TABLE {problem.table(TABLE)} AS SELECT * FROM scored")


def own_features(
    settings: Settings, problem: Problem, model: ServedModel, rows: pl.DataFrame, snapshot: int
) -> pl.DataFrame:
    """Rows (with the model's join keys and request fields) with its features as its own package defines them.

    Raises:
        HindcastError: The lake no longer has a table or column that the package takes its features from.
    """
    from hindcast.features.store import check_package, historical_features  # Feast takes seconds to import

    check_package(settings, model.folder)
    registry = model.folder / FEATURES
    return historical_features(settings, problem, rows, snapshot, model.signature.feature_service, registry)
