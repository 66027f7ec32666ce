"""Drift of a period against the reference: Jensen-Shannon distances, with limits calibrated on the reference's blocks.

Which columns and rows are compared, and what follows from it, is decided in `hindcast.monitoring.report`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
"""Bins of a numeric column: deciles of the reference. A column with no more values than this keeps its values."""


@dataclass(frozen=True)
class Distance:
    """A column's distance between the current period and the reference, and the one that the reference allows.

    Attributes:
        column: Its name.
        distance: Jensen-Shannon distance, 0 (same) to 1 (nothing in common).
        threshold: The quantile of the same distance between the reference's blocks and the rest of the reference.
        drifted: Whether the distance exceeds the threshold.
    """

    column: str
    distance: float
    threshold: float
    drifted: bool


def jensen_shannon(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """The Jensen-Shannon distance (base 2, between 0 and 1) of two histograms, counts of shape (bins,)."""
    from scipy.spatial.distance import jensenshannon

    with np.errstate(invalid="ignore"):  # rounding may leave the root of a tiny negative number
        return float(np.nan_to_num(jensenshannon(first, second, base=2)))


def bin_numbers(
    reference: NDArray[np.float64], current: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the bins that the values fall into; the bins are the reference's. NaN has a bin of its own.

    Args:
        reference: Shape (n,).
        current: Shape (m,).

    Returns:
        Bin numbers from 0, shapes (n,) and (m,).
    """
    known = reference[~np.isnan(reference)]
    values = np.unique(known)
    edges = values if len(values) <= BINS else np.unique(np.quantile(known, np.arange(1, BINS) / BINS))

    def number(column: NDArray[np.float64]) -> NDArray[np.int64]:
        # A value that equals an edge lies below it: a column that is mostly zero keeps its zeros apart.
        return np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="left"))

    return number(reference), number(current)


def bin_levels(
    reference: Sequence[str | None], current: Sequence[str | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `bin_numbers`, for categories: each level is a bin, one that only the current period has too; None is one."""
    levels: dict[str | None, int] = {}
    numbers = [
        np.array([levels.setdefault(level, len(levels)) for level in column], dtype=np.int64)
        for column in (reference, current)
    ]
    return numbers[0], numbers[1]


def blocks(
    reference: NDArray[np.datetime64], current: NDArray[np.datetime64], count: int, seed: int
) -> list[NDArray[np.int64]]:
    """Parts of the reference that are like the current period in length, time of day and number of rows.

    `count` stretches as long as the current period (at most half the reference) are laid evenly over the reference;
    they overlap where it is short. Where there is room, they begin a whole number of days before the current period
    does, so that a night is compared with nights. A stretch with more rows than the current period is thinned to as
    many, because a distance grows as rows get fewer.

    Args:
        reference: Instants (UTC) of the reference's rows, shape (n,), any order.
        current: Instants (UTC) of the current rows, shape (m,), any order.
        count: How many blocks.
        seed: Of the thinning.

    Returns:
        Row numbers of each block in the reference, ascending. Blocks without a row are left out.
    """
    reference, current = reference.astype("datetime64[us]"), current.astype("datetime64[us]")
    one, day = np.timedelta64(1, "us"), np.timedelta64(1, "D").astype("timedelta64[us]")
    start, end = reference.min(), reference.max() + one
    length = min(current.max() - current.min() + one, (end - start) // 2)
    step = (end - start - length) / max(count - 1, 1)
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        begins = start + (step * number).astype("timedelta64[us]")
        if step >= day:
            later = (current.min() - begins) % day  # to the current period's time of day
            begins = begins + later if begins + later + length <= end else begins + later - day
        rows = np.flatnonzero((reference >= begins) & (reference < begins + length))
        if len(rows) > len(current):
            rows = np.sort(random.choice(rows, len(current), replace=False))
        if len(rows):
            found.append(rows)
    return found


def distance(
    column: str,
    reference: NDArray[np.int64],
    current: NDArray[np.int64],
    parts: Sequence[NDArray[np.int64]],
    quantile: float,
) -> Distance:
    """One column's distance and its calibrated threshold.

    Args:
        column: Its name.
        reference: Bin numbers, shape (n,).
        current: Bin numbers, shape (m,).
        parts: The reference's blocks, as row numbers.
        quantile: Of the distances of the blocks from the rest of the reference; the threshold.
    """
    bins = int(max(reference.max(), current.max())) + 1
    whole = np.bincount(reference, minlength=bins)
    inside = []
    for rows in parts:
        block = np.bincount(reference[rows], minlength=bins)
        if block.sum() < whole.sum():
            inside.append(jensen_shannon(block, whole - block))
    threshold = float(np.quantile(inside, quantile)) if inside else 1.0
    found = jensen_shannon(np.bincount(current, minlength=bins), whole)
    return Distance(column, found, threshold, found > threshold)


def standard_score(value: float, inside: Sequence[float], centre: float | None = None) -> float:
    """How many standard deviations of the blocks' values (sample SD) a value lies above a centre, or their mean.

    Where the blocks don't differ at all, any other value is infinitely far.
    """
    centre, deviation = float(np.mean(inside)) if centre is None else centre, float(np.std(inside, ddof=1))
    if deviation == 0:
        return 0.0 if value == centre else float(np.copysign(np.inf, value - centre))
    return (value - centre) / deviation
