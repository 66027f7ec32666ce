"""Exact Shapley values of a raw score that is linear.

How scores make up an explanation, and how it is written into a package, is in `explain`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class LinearExplainer:
    """Linear SHAP for a linear model whose columns are each made of one feature.

    A feature contributes what its columns (its number on a scale, the mark that it is missing, one per category) add
    to the raw score, less what they add on average over the training rows: Σ w (x - E[x]) over its columns. Source:
    S. Lundberg and S. Lee, A unified approach to interpreting model predictions, NeurIPS 2017, corollary 1, with a
    feature's columns as one player.
    """

    method = "linear SHAP"

    def __init__(self, base: Any, slopes: Floats, offsets: Floats, gaps: Floats, levels: Floats, sizes: Any) -> None:
        """Takes what the features contribute.

        Args:
            base: The training rows' average raw score.
            slopes: Of a number: times its value, shape (features,).
            offsets: Of a number: added to that, shape (features,).
            gaps: Of a missing value, shape (features,).
            levels: Of each category, feature after feature, shape (all categories,).
            sizes: How many categories each feature has, 0 for a number, shape (features,).
        """
        self.arrays: dict[str, Any] = {
            "base": base, "slopes": slopes, "offsets": offsets, "gaps": gaps, "levels": levels, "sizes": sizes,
        }  # fmt: skip
        self.base = float(base)
        self._levels = np.split(levels, np.cumsum(sizes)[:-1])

    @classmethod
    def per_score(cls, pipeline: Any, sizes: Sequence[int], matrix: NDArray[np.float32]) -> "list[LinearExplainer]":
        """Of a fitted pipeline of a ColumnTransformer and a linear model, one for each of its raw scores.

        The transformer's parts take numbers linearly and codes one by one, so a few made-up rows tell all of it.

        Args:
            pipeline: As `training` makes it.
            sizes: How many categories each feature has, 0 for a number.
            matrix: The training rows, shape (n, features).
        """
        columns, model = pipeline[0], pipeline[-1]
        weights, starts = np.atleast_2d(model.coef_), np.ravel(model.intercept_)  # Ridge has no axis of scores
        # Each part makes equally many columns of each feature that it takes, in their order.
        owner = np.empty(weights.shape[1], np.intp)
        for name, _, positions in columns.transformers_:
            made = columns.output_indices_[name]
            if made.stop > made.start:
                owner[made] = np.repeat(positions, (made.stop - made.start) // len(positions))
        asked = np.append(np.arange(max(2, *sizes), dtype=np.float64), np.nan)
        made_of = columns.transform(np.tile(asked[:, None], len(sizes)))
        found = []
        for start, each in zip(starts, weights, strict=True):
            added = made_of * each
            added = np.stack([added[:, owner == position].sum(axis=1) for position in range(len(sizes))])
            found.append(cls._centred(start, added, sizes, matrix))
        return found

    @classmethod
    def _centred(
        cls, start: float, added: Floats, sizes: Sequence[int], matrix: NDArray[np.float32]
    ) -> "LinearExplainer":
        """Of one raw score, from what each feature adds to it at 0, 1, … and where it is missing."""

        def explainer(base: float, means: Floats) -> LinearExplainer:
            less = added - means[:, None]
            levels = np.concatenate([row[:size] for row, size in zip(less, sizes, strict=True)])
            slopes = less[:, 1] - less[:, 0]
            return cls(np.float64(base), slopes, less[:, 0], less[:, -1], levels, np.array(sizes, dtype="<i8"))

        plain = explainer(0.0, np.zeros(len(sizes)))
        means = np.array([plain._contribution(*each).mean() for each in enumerate(matrix.T)])
        return explainer(start + means.sum(), means)

    def contributions(self, matrix: NDArray[np.float32]) -> Floats:
        """As `TreeExplainer.contributions`."""
        return np.stack([self._contribution(*each) for each in enumerate(matrix.T)], axis=1)

    def _contribution(self, position: int, column: NDArray[np.float32]) -> Floats:
        missing = np.isnan(column)
        values = np.where(missing, 0, column).astype(np.float64)
        slope, offset, gap = (self.arrays[name][position] for name in ("slopes", "offsets", "gaps"))
        levels = self._levels[position]
        added = levels[values.astype(np.intp)] if len(levels) else slope * values + offset
        return np.where(missing, gap, added)
