"""Exact Shapley values of a raw score that is a sum of trees.

How scores make up an explanation, and how it is written into a package, is in `explain`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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


class TreeExplainer:
    """Path-dependent TreeSHAP for a raw score that is a sum of trees.

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
    def per_score(cls, boosting: Any) -> "list[TreeExplainer]":
        """Of a fitted HistGradientBoosting that takes all features for numbers, one for each of its raw scores.

        Thresholds and values are float32, as in the graph: what is explained is what is served.
        """
        starts = boosting._baseline_prediction.ravel()
        per_score = zip(*boosting._predictors, strict=True)  # each iteration adds one tree to every score
        return [
            cls(np.float32(start), _read_trees(each.nodes for each in trees))
            for start, trees in zip(starts, per_score, strict=True)
        ]

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


def _read_trees(theirs: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """scikit-learn's trees as one table of `NODE`."""
    trees: list[NDArray[Any]] = []
    start = 0
    for nodes in theirs:
        tree = np.zeros(len(nodes), NODE)
        with np.errstate(over="ignore"):  # a threshold above all numbers stays above all of float32's
            for ours, name in _SCIKIT_LEARN.items():
                tree[ours] = nodes[name]
        for child in ("left", "right"):
            tree[child] = np.where(nodes["is_leaf"], 0, nodes[child] + start)
        trees.append(tree)
        start += len(tree)
    return np.concatenate(trees)


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
