"""A made-up problem for tests of training and after: parcels that come late, a thousand a month, with gaps.

Nothing of it is random beyond the seed; heavier parcels and crates come late more often. The label is whether a parcel
comes late (binary), its fate (multiclass), or how many hours late it is (regression).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from hindcast.problem import Problem
from hindcast.training.search import Candidates, train
from hindcast.training.training_data import TrainingData

FEATURES = ["weight", "distance", "kind", "fragile"]
START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOWS = {
    "train": (START, START + timedelta(days=60)),
    "validation": (START + timedelta(days=60), START + timedelta(days=80)),
    "test": (START + timedelta(days=80), START + timedelta(days=100)),
}


_BOOSTING = {
    "name": "boosting",
    "model": "hist_gradient_boosting",
    "parameters": {"max_iter": 20, "early_stopping": False},
    "search": {"max_leaf_nodes": [4, 8]},
}
_SLOPE = {"low": 0.01, "high": 1, "log": True}
_BY_TASK: dict[str, dict[str, Any]] = {
    "binary": {},
    "multiclass": {
        "question": "Will the parcel come early, late or never?",
        "metrics": {"primary": "log_loss", "bars": {"accuracy": {"min": 0.5}, "log_loss": {"max": 1.0}}},
    },
    "regression": {
        "question": "How many hours late will the parcel come?",
        "metrics": {"primary": "mae", "bars": {"r2": {"min": 0.2}, "coverage": {"min": 0.7, "max": 0.9}}},
        "candidates": [{"name": "linear", "model": "ridge", "search": {"alpha": _SLOPE}}, _BOOSTING],
    },
}
"""What the problem file says otherwise than that of the binary problem, its label apart."""
_LABELS: dict[str, dict[str, Any]] = {"multiclass": {"classes": ["early", "late", "lost"]}}


def parcels_problem(task: str = "binary", scale: str | None = None, **changes: Any) -> Problem:
    """The problem file's content.

    Args:
        task: Decides what the label is.
        scale: Of a regression's label.
        changes: Replace whole sections.
    """
    content: dict[str, Any] = {
        "name": "parcels",
        "question": "Will the parcel come late?",
        "task": task,
        "domain": "parcels",
        "labeled_table": "labeled.parcels",
        "split_table": "split.parcels",
        "entity": {"name": "parcel", "key": "parcel_id", "description": "One parcel."},
        "prediction_time": {"column": "asked_at", "description": "When it is sent."},
        "label": {
            "column": "late",
            "known_at": "late_known_at",
            "description": "It came after the day that was promised.",
            "matures_within": "3 days",
            "scale": scale,
        }
        | _LABELS.get(task, {}),
        "splits": {
            "train": {"start": "-100 days", "end": "-40 days"},
            "validation": {"start": "-40 days", "end": "-20 days"},
            "test": {"start": "-20 days", "end": "0 days"},
        },
        "feature_service": "parcels",
        "metrics": {"primary": "log_loss", "bars": {"roc_auc": {"min": 0.6}, "log_loss": {"max": 0.7}}},
        "slices": {"columns": ["depot"], "min_rows": 100},
        "baseline": {"columns": ["depot"], "min_gain": 0.05},
        "candidates": [
            {"name": "linear", "model": "logistic_regression", "search": {"C": _SLOPE}},
            _BOOSTING,
        ],
        "budget": {"draws": 2, "folds": 2, "max_rows": 1000, "seed": 7},
        "leakage": {
            "max_roc_auc": 0.95,
            "max_feature_roc_auc": 0.85,
            "max_null_pattern_rate": 0.99,
            "min_null_pattern_rows": 50,
        },
        "monitoring": {
            "window": "7 days",
            "min_requests": 100,
            "min_labeled": 100,
            "reference_rows": 1000,
            "blocks": 5,
            "drift_quantile": 0.95,
            "max_drifted_share": 0.5,
            "performance_z": 2.0,
            "cool_down": "7 days",
        },
        "serving": {"max_batch": 10},
    }
    return Problem.model_validate(content | _BY_TASK[task] | changes)


def parcels(per_day: int = 30, seed: int = 1, task: str = "binary") -> pl.DataFrame:
    """A training set: one row per parcel over 100 days, its label known two days after it was asked for."""
    random = np.random.default_rng(seed)
    rows = per_day * 100
    asked_at = [START.replace(tzinfo=None) + timedelta(minutes=n * 1440 / per_day) for n in range(rows)]
    weight, distance = random.normal(size=rows), random.gamma(2.0, 100.0, rows)
    kind = random.choice(["bag", "box", "crate"], rows)
    slowness = 1.5 * weight + 1.5 * (kind == "crate") - 1.0
    chance = random.random(rows)
    late = {
        "binary": lambda: (chance < 1 / (1 + np.exp(-slowness))).astype(np.int32),
        "multiclass": lambda: np.array(["early", "late", "lost"])[
            np.digitize(slowness + np.log(chance / (1 - chance)), [0, 2])
        ],
        "regression": lambda: np.exp(0.35 * slowness + 1.9 * chance),
    }[task]()
    frame = pl.DataFrame(
        {
            "parcel_id": [f"P{n:05}" for n in range(rows)],
            "asked_at": asked_at,
            "late_known_at": [at + timedelta(days=2) for at in asked_at],
            "late": late,
            "depot": random.choice(["east", "west"], rows),
            "weight": weight,
            "distance": np.where(random.random(rows) < 0.1, np.nan, distance),
            "kind": pl.Series(kind).set(pl.Series(random.random(rows) < 0.05), None),
            "fragile": random.random(rows) < 0.5,
        },
        schema_overrides={"asked_at": pl.Datetime("us"), "late_known_at": pl.Datetime("us"), "kind": pl.String},
    ).with_columns(pl.col("distance").fill_nan(None), split=pl.lit(None, dtype=pl.String))
    for split, (start, end) in WINDOWS.items():
        inside = pl.col("asked_at").is_between(_naive(start), _naive(end), closed="left")
        inside &= pl.col("late_known_at") <= _naive(end)
        frame = frame.with_columns(split=pl.when(inside).then(pl.lit(split)).otherwise("split"))
    return frame.filter(pl.col("split").is_not_null())


def parcels_data(frame: pl.DataFrame | None = None, snapshot: int = 7, task: str = "binary") -> TrainingData:
    """The training set as read from a lake."""
    return TrainingData(parcels(task=task) if frame is None else frame, WINDOWS, WINDOWS["test"][1], snapshot)


def trained_parcels(
    snapshot: int = 7, task: str = "binary", scale: str | None = None
) -> tuple[Problem, TrainingData, Candidates]:
    """The problem, its data and its fitted candidates."""
    problem, data = parcels_problem(task, scale), parcels_data(snapshot=snapshot, task=task)
    return problem, data, train(problem, data, FEATURES)


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)
