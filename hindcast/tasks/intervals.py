"""Intervals around a number that a model predicts: how far the labels of held-out rows lay from their predictions.

Split conformal prediction with finite-sample quantiles (J. Lei et al., Distribution-free predictive inference for
regression, Journal of the American Statistical Association 113, 2018), each tail by itself (H. Linusson et al.,
Signed-error conformal regression, PAKDD 2014), in bins of how far labels are expected to lie from values (H.
Boström and U. Johansson, Mondrian conformal regressors, PMLR 128, 2020). No model here: only numbers, which a package
carries in its signature.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.errors import HindcastError

Floats = NDArray[np.float64]

_ENDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Of the bins, as shares of the rows: finer where errors are largest, as the width grows fastest there."""
_BIN_ROWS = 100  # with fewer, a tail's own chance error is larger than what a bin of its own corrects


@dataclass(frozen=True)
class Interval:
    """What is added to a value on either side, by the error that is expected of it.

    Between the bins' centres it is interpolated: what differs by a rounding error, as the exported graph does, then has
    an interval that does, too.

    Attributes:
        centres: Median expected error of each bin, ascending.
        lower: Per bin, added to the value; mostly below 0.
        upper: Per bin, added to the value.
    """

    centres: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @classmethod
    def fit(cls, values: Floats, errors: Floats, labels: Floats, coverage: float) -> "Interval":
        """Measures the interval on rows that the model was not fitted on.

        Take a further row that is exchangeable with a bin's n rows, of any distribution. The bin's interval holds its
        label with a chance of at least `coverage`; where labels aren't tied, of at most 2 / (n + 1) more. Between bins'
        centres the ends are interpolated: there the coverage is measured and not guaranteed.

        Args:
            values: Predictions, shape (n,).
            errors: How far labels are expected to lie from them, shape (n,). Only their order matters.
            labels: Shape (n,). Rows with a NaN in any of these are left out.
            coverage: Between 0 and 1; on either side half of the rest may lie outside.

        Raises:
            HindcastError: There are too few rows for such a coverage.
        """
        known = np.isfinite(values) & np.isfinite(errors) & np.isfinite(labels)
        errors, residuals = errors[known], (labels - values)[known]
        tail = (1 - coverage) / 2
        least = math.ceil(round(1 / tail, 9)) - 1
        if len(residuals) < least:
            raise HindcastError(
                f"{len(residuals)} held-out rows with a label are too few for intervals of coverage {coverage:g}, "
                f"which take {least}: lengthen the validation window."
            )
        edges = _edges(errors, max(least, _BIN_ROWS))
        bin_of = np.searchsorted(edges, errors, side="left")
        bins = [bin_of == each for each in range(len(edges) + 1)]
        lower, upper = zip(*[_ends(residuals[rows], tail) for rows in bins], strict=True)
        return cls(tuple(float(np.median(errors[rows])) for rows in bins), lower, upper)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Interval":
        return cls(**{name: tuple(numbers) for name, numbers in content.items()})

    def to_json(self) -> dict[str, Any]:
        return {name: list(numbers) for name, numbers in asdict(self).items()}

    def bounds(self, values: Floats, errors: Floats) -> tuple[Floats, Floats]:
        """Lower and upper ends of values (n,) with such errors (n,), each of shape (n,); NaN where the value is."""
        lower, upper = (np.interp(errors, self.centres, offsets) for offsets in (self.lower, self.upper))
        return values + lower, values + upper


def _edges(errors: Floats, least: int) -> list[float]:
    """Ends (included) of bins of no fewer rows than `least`; equal errors share a bin."""
    ordered, rows = np.sort(errors), len(errors)
    found: list[float] = []
    begin = 0
    for share in _ENDS:
        edge = float(ordered[round(rows * share) - 1])
        end = int(np.searchsorted(ordered, edge, side="right"))
        if end - begin >= least and rows - end >= least:
            found.append(edge)
            begin = end
    return found


def _ends(residuals: Floats, tail: float) -> tuple[float, float]:
    """The k-th smallest and k-th largest of n, k = ⌊(n + 1) tail⌋: one more lies beyond either with chance ≤ tail."""
    ordered, rows = np.sort(residuals), len(residuals)
    rank = math.floor(round((rows + 1) * tail, 9))
    return float(ordered[rank - 1]), float(ordered[rows - rank])
