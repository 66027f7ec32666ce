"""Reads the training set at one snapshot of the lake, as a frame and as arrays per split.

How the training set is made is in `training_set`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.package.model import Feature, Matrix, encode
from hindcast.problem import Problem
from hindcast.tables.windows import read_windows
from hindcast.tasks import problem_task
from hindcast.tasks.task import Labels
from hindcast.training import training_set


@dataclass(frozen=True)
class TrainingData:
    """The training set as it was at one snapshot.

    Attributes:
        frame: One row per labeled entity, in the order of prediction time, then of the key, with
            keys, instants (UTC, without a zone), label, `split` and features.
        windows: First (included) and last (excluded) prediction time (UTC) per split.
        as_of: The instant (UTC) that the windows end at.
        snapshot: Of the lake.
    """

    frame: pl.DataFrame
    windows: dict[str, tuple[datetime, datetime]]
    as_of: datetime
    snapshot: int


@dataclass(frozen=True)
class Rows:
    """One split of the training set as arrays, in the order of prediction time, then of the key.

    Attributes:
        matrix: Features, shape (n, features).
        labels: As the problem's task has them, shape (n,).
        asked_at: Prediction times (UTC), shape (n,).
        known_at: When the labels became known (UTC), shape (n,).
    """

    matrix: Matrix
    labels: Labels
    asked_at: NDArray[np.datetime64]
    known_at: NDArray[np.datetime64]


def read_training_data(
    lake: Lake, problem: Problem, snapshot: int | None = None, training_hash: str | None = None
) -> TrainingData:
    """Reads it at a snapshot, or at the newest one.

    Args:
        lake: Where it lies.
        problem: Names its columns.
        snapshot: Of the lake. Its number alone says little: another lake has the same numbers.
        training_hash: That the content must have.

    Raises:
        HindcastError: There is no lake yet, it has no such snapshot, or the content there is another.
    """
    version = lake.snapshot() if snapshot is None else snapshot
    frame = training_set.read(problem, lake, version)
    if training_hash is not None and training_set.content_hash(frame) != training_hash:
        raise HindcastError(
            f"{problem.table(training_set.TABLE)} at snapshot {version} isn't what the candidates were trained on: "
            "train again with `hindcast run`."
        )
    windows = read_windows(lake, problem, version)
    return TrainingData(
        frame.sort(problem.prediction_time.column, problem.entity.key),
        {split: (start, end) for split, (start, end, _) in windows.items()},
        next(as_of for _, _, as_of in windows.values()),
        version,
    )


def labels_of(problem: Problem, frame: pl.DataFrame) -> Labels:
    """The labels of rows, all of them known, as the problem's task has them, shape (n,)."""
    return problem_task(problem).labels(frame[problem.label.column].to_numpy())


def find_features(frame: pl.DataFrame, names: Sequence[str]) -> tuple[Feature, ...]:
    """Kinds of the feature columns: text is a category, all that counts is a number.

    Categories are those of the training window; what only comes later is unknown to a model.

    Raises:
        HindcastError: A column is missing, or neither text nor a number.
    """
    features = []
    trained = frame.filter(pl.col("split") == "train")
    for name in names:
        if name not in frame.columns:
            raise HindcastError(f"The training set has no column for the feature {name}.")
        dtype = frame[name].dtype
        if dtype.is_numeric() or dtype == pl.Boolean:
            features.append(Feature(name, "numeric"))
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            features.append(
                Feature(name, "categorical", tuple(sorted(trained[name].cast(pl.String).unique().drop_nulls())))
            )
        else:
            raise HindcastError(f"The feature {name} is {dtype}: give the model a number or a text.")
    return tuple(features)


def columns(frame: pl.DataFrame, features: Sequence[Feature]) -> dict[str, Any]:
    """A frame's features in the form that `encode` takes."""
    return {
        feature.name: frame[feature.name].cast(pl.Float64).to_numpy()
        if feature.kind == "numeric"
        else frame[feature.name].cast(pl.String).to_list()
        for feature in features
    }


def split_rows(problem: Problem, frame: pl.DataFrame, features: Sequence[Feature], split: str) -> Rows:
    """Raises:
    HindcastError: The split has no rows, or its labels differ too little to learn from them.
    """
    part = frame.filter(pl.col("split") == split).sort(problem.prediction_time.column, problem.entity.key)
    labels = labels_of(problem, part)
    problem_task(problem).check_variety(labels, f"The {split} window", learned_from=split == "train")
    return Rows(
        encode(columns(part, features), features),
        labels,
        part[problem.prediction_time.column].to_numpy(),
        part[problem.label.known_at].to_numpy(),
    )
