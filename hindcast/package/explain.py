"""What each feature contributes to a model's raw score: exact Shapley values, of trees and of linear models.

Needs numpy alone, and what was written into the package from the fitted estimator: no pickle. How the raw score
becomes a probability, and that both agree, is `model`'s and `package`'s matter.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCORE_LIMIT = 1e-4
"""Largest difference, in log-odds, between a row's base and contributions added up and its served probability."""
_FURTHEST = float(np.log(0.999 / 0.001))

NODE = np.dtype(
    [
        ("feature", "<i4"),
        ("threshold", "<f4"),
        ("missing_left", "?"),
        ("left", "<u4"),
        ("right", "<u4"),
        ("value", "<f4"),
        ("cover", "<u4"),
    ]
)
"""One node of a tree. Children are rows of the same table, which holds all trees; a leaf's are 0, as the first row is
a root. `cover` counts the training rows that came through."""

_SCIKIT_LEARN = {
    "feature": "feature_idx",
    "threshold": "num_threshold",
    "missing_left": "missing_go_to_left",
    "value": "value",
    "cover": "count",
}


@dataclass(frozen=True)
class Explanation:
    """Why a model says what it says of some rows, on the scale of its raw score, the log-odds of the label 1.

    Attributes:
        base: The raw score before anything is known of a row.
        contributions: What knowing each feature adds to it, shape (n, features).
        probabilities: What the model says of the rows, shape (n,).
    """

    base: float
    contributions: Floats
    probabilities: Floats

    @property
    def scores(self) -> Floats:
        """Base and contributions added up, shape (n,): the raw scores."""
        return self.base + self.contributions.sum(axis=1)

    @property
    def difference(self) -> float:
        """Largest difference between the scores and the log-odds of the probabilities; `SCORE_LIMIT` is its bar.

        Below 0.001 and above 0.999, both count as that: a float32 probability no longer tells scores there apart.
        """
        if not len(self.probabilities):
            return 0.0
        with np.errstate(divide="ignore"):
            said = np.log(self.probabilities) - np.log1p(-self.probabilities)
        return float(np.abs(_within(self.scores) - _within(said)).max())


def _within(scores: Floats) -> Floats:
    return scores.clip(-_FURTHEST, _FURTHEST)


class TreeExplainer:
    """Path-dependent TreeSHAP for a sum of trees.

    What isn't known of a row is averaged over: at a split on it, both ways count, as many training rows as went
    them. Shapley values of that game are those of S. Lundberg et al., From local explanations to global understanding
    with explainable AI for trees, Nature Machine Intelligence 2 (2020), algorithm 2. They are found leaf by leaf, as
    in R. Mitchell, E. Frank and G. Holmes, GPUTreeShap, PeerJ Computer Science 8 (2022): with the splits on one
    feature merged, a leaf of value v below features 1 … d is worth v · Π f, where f is o for a known feature (1 if
    the row can come to the leaf, else 0) and z for an unknown one (the share of training rows). In such a game,
    feature j contributes

        v · (o_j - z_j) · ∫₀¹ Π_{k≠j} (t o_k + (1 - t) z_k) dt

    (G. Owen, Multilinear extensions of games, Management Science 18 (1972)). The integrand is a polynomial of degree
    d - 1, for which Gauss-Legendre quadrature with ⌈d / 2⌉ points is exact (R. Wettenstein, R. Mitchell and P. Yu,
    Quadrature-TreeSHAP, arXiv:2605.04497, 2026). All its terms are positive: nothing cancels, however deep a tree.
    """

    method = "path-dependent TreeSHAP"

    def __init__(self, start: Any, nodes: NDArray[Any]) -> None:
        """Takes the trees.

        Args:
            start: The raw score before the first tree.
            nodes: Of all trees, as `NODE`.
        """
        self.arrays: dict[str, Any] = {"start": start, "nodes": nodes}

    @classmethod
    def of(cls, boosting: Any) -> "TreeExplainer":
        """Of a fitted binary HistGradientBoostingClassifier that takes all features for numbers.

        Thresholds and values are float32, as in the graph: what is explained is what is served.
        """
        trees: list[NDArray[Any]] = []
        start = 0
        for (predictor,) in boosting._predictors:  # how many rows came through a node is said nowhere else
            theirs, tree = predictor.nodes, np.zeros(len(predictor.nodes), NODE)
            with np.errstate(over="ignore"):  # a threshold above all numbers stays above all of float32's
                for ours, name in _SCIKIT_LEARN.items():
                    tree[ours] = theirs[name]
            for child in ("left", "right"):
                tree[child] = np.where(theirs["is_leaf"], 0, theirs[child] + start)
            trees.append(tree)
            start += len(tree)
        return cls(np.float32(boosting._baseline_prediction.item()), np.concatenate(trees))

    @cached_property
    def base(self) -> float:
        """The raw score of a row of which nothing is known: the trees' average over their training rows."""
        return float(self.arrays["start"]) + sum(float(part.share.prod(axis=0) @ part.value) for part in self._leaves)

    def contributions(self, matrix: NDArray[np.float32]) -> Floats:
        """Of each feature to the raw score.

        Args:
            matrix: A model's input, shape (n, features), NaN where a value is missing.

        Returns:
            Shape (n, features).
        """
        found = np.zeros(matrix.shape)
        for row, into in zip(matrix, found, strict=True):
            for part in self._leaves:
                into += part.contributions(row)
        return found

    @cached_property
    def _leaves(self) -> "list[_Leaves]":
        return list(_find_leaves(self.arrays["nodes"]))


@dataclass(frozen=True)
class _Leaves:
    """All leaves that lie below the same number d of different features; one column for each, one row per feature.

    Attributes:
        value: Of the leaves, shape (leaves,).
        feature: Numbers of the features that decide on the way to a leaf, shape (d, leaves).
        low: A row comes to the leaf if its feature is above this, shape (d, leaves).
        high: And at most this, shape (d, leaves).
        missing: Whether it comes there without the feature, shape (d, leaves).
        share: Of the training rows that came to these splits, how many went towards the leaf, shape (d, leaves).
    """

    value: Floats
    feature: NDArray[np.intp]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    missing: NDArray[np.bool_]
    share: Floats

    @cached_property
    def _quadrature(self) -> tuple[Floats, Floats, Floats]:
        """Points, weights (points, 1), and (1 - t) z, shape (d, points, leaves)."""
        points, weights = np.polynomial.legendre.leggauss((len(self.feature) + 1) // 2)
        points, weights = (points[:, None] + 1) / 2, weights[:, None] / 2  # from [-1, 1] to [0, 1]
        return points, weights, self.share[:, None, :] * (1 - points)

    def contributions(self, row: NDArray[np.float32]) -> NDArray[Any]:
        """Of each feature of one row, shape (features,)."""
        if not len(self.feature):
            return np.zeros(len(row))
        points, weights, unknown = self._quadrature
        values = row[self.feature]
        reached = ((values > self.low) & (values <= self.high)) | (self.missing & np.isnan(values))
        factors = unknown + reached[:, None, :] * points
        integrals = (factors.prod(axis=0) * weights / factors).sum(axis=1)
        worth = (reached - self.share) * integrals * self.value
        return np.bincount(self.feature.ravel(), worth.ravel(), minlength=len(row))


def _find_leaves(nodes: NDArray[Any]) -> "Iterator[_Leaves]":
    """Every leaf with the features that decide on the way to it, those at equal numbers of features together."""
    inner = np.flatnonzero(nodes["left"])
    parent = np.full(len(nodes), -1)
    parent[nodes["left"][inner]] = parent[nodes["right"][inner]] = inner
    ends = np.flatnonzero(nodes["left"] == 0)
    # All ways at once, a step up the trees at a time.
    node, leaf = ends, np.arange(len(ends))
    steps: list[tuple[NDArray[Any], ...]] = []
    while len(node):
        below = parent[node] >= 0
        node, leaf = node[below], leaf[below]
        above = nodes[parent[node]]
        is_left = above["left"] == node
        steps.append(
            (
                leaf,
                above["feature"],
                np.where(is_left, -np.inf, above["threshold"]).astype(np.float32),
                np.where(is_left, above["threshold"], np.inf).astype(np.float32),
                above["missing_left"] == is_left,
                nodes["cover"][node] / above["cover"],
            )
        )
        node = parent[node]
    leaf, feature, low, high, missing, share = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    # Splits on the same feature become one: between the tightest bounds, by the product of their shares.
    order = np.lexsort((feature, leaf))
    leaf, feature = leaf[order], feature[order]
    first = np.flatnonzero(np.diff(leaf, prepend=-1) | np.diff(feature, prepend=-1))
    if len(first):
        low, high = np.maximum.reduceat(low[order], first), np.minimum.reduceat(high[order], first)
        missing, share = np.logical_and.reduceat(missing[order], first), np.multiply.reduceat(share[order], first)
    counts = np.bincount(leaf[first], minlength=len(ends))
    offsets = np.cumsum(counts) - counts
    for count in np.unique(counts):
        chosen = np.flatnonzero(counts == count)
        at = offsets[chosen] + np.arange(count)[:, None]
        yield _Leaves(
            nodes["value"][ends[chosen]].astype(np.float64),
            feature[first][at].astype(np.intp), low[at], high[at], missing[at], share[at],
        )  # fmt: skip


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
    def of(cls, pipeline: Any, sizes: Sequence[int], matrix: NDArray[np.float32]) -> "LinearExplainer":
        """Of a fitted pipeline of a ColumnTransformer and a binary linear classifier.

        The transformer's parts take numbers linearly and codes one by one, so a few made-up rows tell all of it.

        Args:
            pipeline: As `training` makes it.
            sizes: How many categories each feature has, 0 for a number.
            matrix: The training rows, shape (n, features).
        """
        columns, model = pipeline[0], pipeline[-1]
        # Each part makes equally many columns of each feature that it takes, in their order.
        owner = np.empty(model.coef_.shape[1], np.intp)
        for name, _, positions in columns.transformers_:
            made = columns.output_indices_[name]
            if made.stop > made.start:
                owner[made] = np.repeat(positions, (made.stop - made.start) // len(positions))
        asked = np.append(np.arange(max(2, *sizes), dtype=np.float64), np.nan)
        added = columns.transform(np.tile(asked[:, None], len(sizes))) * model.coef_[0]
        added = np.stack([added[:, owner == position].sum(axis=1) for position in range(len(sizes))])

        def explainer(base: float, means: Floats) -> LinearExplainer:
            less = added - means[:, None]
            levels = np.concatenate([row[:size] for row, size in zip(less, sizes, strict=True)])
            slopes = less[:, 1] - less[:, 0]
            return cls(np.float64(base), slopes, less[:, 0], less[:, -1], levels, np.array(sizes, dtype="<i8"))

        plain = explainer(0.0, np.zeros(len(sizes)))
        means = np.array([plain._contribution(*each).mean() for each in enumerate(matrix.T)])
        return explainer(model.intercept_[0] + means.sum(), means)

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


Explainer = TreeExplainer | LinearExplainer


def to_bytes(explainer: Explainer) -> bytes:
    """What `from_bytes` reads: NumPy's own form for arrays. Equal explainers give equal bytes.

    Not compressed, because compressors of different versions give different bytes.
    """
    file = io.BytesIO()
    np.savez(file, **explainer.arrays)
    return file.getvalue()


def from_bytes(content: bytes) -> Explainer:
    """The explainer that was written by `to_bytes`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    return TreeExplainer(**arrays) if "nodes" in arrays else LinearExplainer(**arrays)
