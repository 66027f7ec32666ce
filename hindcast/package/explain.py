"""What each feature contributes to a model's raw scores: exact Shapley values, of trees and of linear models.

Needs numpy alone, and what was written into the package from the fitted estimator: no pickle. How raw scores become
predictions, and how far both may differ, is the task's matter.
"""

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.package.explain_linear import LinearExplainer
from hindcast.package.explain_trees import TreeExplainer
from hindcast.tasks.task import Predictions, Task

Floats = NDArray[np.float64]

SCORE_LIMIT = 1e-4
"""Largest difference between a row's base and contributions added up and its served prediction, as
`Task.score_differences` measures it."""


@dataclass(frozen=True)
class Explanation:
    """Why a model says what it says of some rows, on the scale of its raw scores.

    Attributes:
        task: What scores and predictions mean.
        base: The raw scores before anything is known of a row, shape (scores,).
        contributions: What knowing each feature adds to them, shape (n, features, scores).
        predictions: What the model says of the rows, shape (n, outputs).
    """

    task: Task
    base: Floats
    contributions: Floats
    predictions: Predictions

    @property
    def scores(self) -> Floats:
        """Base and contributions added up, shape (n, scores): the raw scores."""
        return self.base + self.contributions.sum(axis=1)

    @property
    def difference(self) -> float:
        """Largest difference between the scores and the predictions; `SCORE_LIMIT` is its bar."""
        differences = self.task.score_differences(self.scores, self.predictions)
        return float(differences.max(initial=0.0))


@dataclass(frozen=True)
class Explainer:
    """What a package explains with: one explainer for each raw score of the model.

    What several scores have in common reaches no prediction, so each is taken less their mean. Shapley values are
    linear in the score: the same then holds for contributions. Of two classes, a model has the second's score alone;
    the first's is 0.

    Attributes:
        parts: One per raw score of the model.
        scores: How many raw scores the task has.
    """

    parts: Sequence[TreeExplainer | LinearExplainer]
    scores: int = 1

    @classmethod
    def of(cls, pipeline: Any, sizes: Sequence[int], matrix: NDArray[np.float32], scores: int) -> "Explainer":
        """Of a fitted pipeline, as `training` makes it.

        Args:
            pipeline: Its last step is linear, or a HistGradientBoosting.
            sizes: How many categories each feature has, 0 for a number.
            matrix: The training rows, shape (n, features).
            scores: How many raw scores the task has.
        """
        if hasattr(pipeline[-1], "coef_"):
            return cls(LinearExplainer.per_score(pipeline, sizes, matrix), scores)
        return cls(TreeExplainer.per_score(pipeline[-1]), scores)

    @property
    def method(self) -> str:
        """How the contributions are found, for people."""
        return self.parts[0].method

    @cached_property
    def base(self) -> Floats:
        """The raw scores of a row of which nothing is known, shape (scores,)."""
        return np.array([part.base for part in self.parts]) @ self._weights

    def contributions(self, matrix: NDArray[np.float32]) -> Floats:
        """Of each feature to the raw scores of rows (n, features), shape (n, features, scores)."""
        return np.stack([part.contributions(matrix) for part in self.parts], axis=-1) @ self._weights

    @cached_property
    def _weights(self) -> Floats:
        """Of the model's raw scores in the task's, shape (parts, scores)."""
        weights = np.eye(self.scores)[self.scores - len(self.parts) :]
        return weights - weights.mean(axis=1, keepdims=True) if self.scores > 1 else weights


def to_bytes(explainer: Explainer) -> bytes:
    """What `from_bytes` reads: NumPy's own form for arrays. Equal explainers give equal bytes.

    Not compressed, because compressors of different versions give different bytes.
    """
    file = io.BytesIO()
    parts: dict[str, Any] = {
        f"{number}.{name}": each for number, part in enumerate(explainer.parts) for name, each in part.arrays.items()
    }
    np.savez(file, **parts, scores=np.int64(explainer.scores))
    return file.getvalue()


def from_bytes(content: bytes) -> Explainer:
    """The explainer that was written by `to_bytes`, also when it wrote one part alone, its arrays without a number."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    scores = int(arrays.pop("scores", 1))
    parts: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, array in arrays.items():
        number, _, own = name.rpartition(".")
        parts[number][own] = array
    made = [(TreeExplainer if "nodes" in part else LinearExplainer)(**part) for part in parts.values()]
    return Explainer(made, scores)
