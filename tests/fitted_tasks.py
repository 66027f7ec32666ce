"""Small fitted models of made-up parcels, one for each task and family, to be exported and explained."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hindcast.package.build import export
from hindcast.package.explain import Explainer, to_bytes
from hindcast.package.model import Feature, Matrix, ServedModel, encode
from hindcast.problem import Candidate
from hindcast.tasks import find_task
from hindcast.tasks.task import Labels, Task
from hindcast.training.search import Fitted, fit
from tests.tiny_model import SIGNATURE_OF_PARCELS

FEATURES = (
    Feature("weight", "numeric"),
    Feature("distance", "numeric"),
    Feature("kind", "categorical", ("bag", "box", "crate")),
    Feature("fragile", "numeric"),
)
TASKS: dict[str, tuple[Task, Callable[[NDArray[np.float64]], Labels]]] = {
    "binary": (find_task("binary"), lambda slowness: (slowness > 2).astype(np.int64)),
    "two classes": (find_task("multiclass", ("early", "late")), lambda slowness: (slowness > 2).astype(np.int64)),
    "three classes": (
        find_task("multiclass", ("early", "late", "lost")),
        lambda slowness: np.digitize(slowness, [1, 4]),
    ),
    "value": (find_task("regression"), lambda slowness: 10 * slowness),
    "logarithm": (find_task("regression", scale="log1p"), lambda slowness: np.exp(slowness)),
}
"""Tasks by a name, with labels from how slow a parcel is."""
PARAMETERS: dict[str, dict[str, Any]] = {
    "logistic_regression": {},
    "ridge": {},
    "hist_gradient_boosting": {"max_iter": 12, "max_leaf_nodes": 12, "min_samples_leaf": 5, "early_stopping": False},
}
MODELS = [(name, family) for name, (task, _) in TASKS.items() for family in task.families]


@dataclass(frozen=True)
class FittedModel:
    """A model that was fitted to 600 parcels.

    Attributes:
        task: What it is for.
        fitted: As the search hands it over.
        matrix: Of the parcels, shape (600, 4).
        labels: Shape (600,).
    """

    task: Task
    fitted: Fitted
    matrix: Matrix
    labels: Labels

    @classmethod
    def of(cls, name: str, family: str, **parameters: Any) -> "FittedModel":
        """Of a task of `TASKS`; parameters are in addition to the family's."""
        task, label = TASKS[name]
        matrix = encode(parcels(600, seed=1), FEATURES)
        weight, distance, kind, fragile = np.nan_to_num(matrix).astype(np.float64).T
        noise = np.random.default_rng(2).normal(size=len(matrix))
        labels = label(weight + distance / 100 + 1.5 * weight * (kind == 2) - fragile + noise / 2)
        parameters = PARAMETERS[family] | parameters
        with threadpool_limits(1):  # so few rows are too little work to share
            estimator = fit(task, Candidate(name=family, model=family), parameters, FEATURES, matrix, labels, 7)
            second = task.second_model(estimator, matrix, labels, 7)
        return cls(task, Fitted(family, family, parameters, (), estimator, 0.0, second), matrix, labels)

    @cached_property
    def explainer(self) -> Explainer:
        sizes = [len(feature.categories) for feature in FEATURES]
        return Explainer.of(self.fitted.estimator, sizes, self.matrix, len(self.task.scores))

    @cached_property
    def served(self) -> ServedModel:
        """As a service loads it, without a calibration."""
        task, graph = self.task, export(self.task, self.fitted, FEATURES)
        declared = {"task": task.name, "classes": task.classes, "scale": task.scale}
        signature = replace(SIGNATURE_OF_PARCELS, **declared, features=FEATURES, calibration={})
        return ServedModel(Path(), signature, {"version": "v1"}, graph, to_bytes(self.explainer))


def parcels(rows: int, seed: int) -> dict[str, Sequence[Any]]:
    """Columns as a request brings them: of the first three, a tenth is missing, and some kinds are unknown."""
    random = np.random.default_rng(seed)

    def with_gaps(values: Sequence[Any]) -> list[Any]:
        return [None if gap else value for value, gap in zip(values, random.random(rows) < 0.1, strict=True)]

    return {
        "weight": with_gaps(random.normal(size=rows)),
        "distance": with_gaps(random.gamma(2.0, 100.0, rows)),
        "kind": with_gaps(random.choice(["bag", "box", "crate", "pallet"], rows, p=[0.35, 0.3, 0.3, 0.05])),
        "fragile": (random.random(rows) < 0.5).tolist(),
    }


def hard_rows() -> Matrix:
    """600 parcels that no model was fitted to, unknown kinds among them, and 16 that lack features in all ways."""
    matrix = encode(parcels(600, seed=3), FEATURES)
    gaps = matrix[:16].copy()
    for row, columns in zip(gaps, itertools.product([False, True], repeat=4), strict=True):
        row[list(columns)] = np.nan
    return np.vstack([matrix, gaps])
