"""Intervals of the difference between two models, from resampling whole days.

Rows of one day share what befell that day, so days, not rows, are what chance draws. Block bootstrap, percentile
interval (B. Efron and R. Tibshirani, An introduction to the bootstrap, 1993, chapters 8 and 13).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.tasks.task import DIGITS, Labels, Predictions, Task

RESAMPLES = 500


@dataclass(frozen=True)
class Scored:
    """What a model said about rows, with the truth about them.

    Attributes:
        labels: Shape (n,).
        said: Predictions, shape (n, outputs).
        asked_at: Prediction times (UTC), shape (n,).
    """

    labels: Labels
    said: Predictions
    asked_at: NDArray[np.datetime64]


def compare_losses(
    task: Task,
    primary: str,
    labels: Labels,
    challenger: Predictions,
    champion: Predictions,
    asked_at: NDArray[np.datetime64],
    seed: int,
) -> dict[str, Any]:
    """Difference of the two models' loss on the same rows, with an interval from resampling whole days.

    Args:
        task: Of the labels and predictions.
        primary: A metric of it; turned so that less is better.
        labels: Shape (n,).
        challenger: Predictions, shape (n, outputs).
        champion: Predictions of the same rows, shape (n, outputs).
        asked_at: Prediction times (UTC), shape (n,); their days are the blocks.
        seed: Of the resampling.

    Returns:
        `difference` (challenger's loss less champion's), `low` and `high` (95 %), `days`, `rows`. NaN where the
        metric isn't defined on the rows.
    """
    metric = task.metric(primary)
    if not len(labels):
        return _interval(np.nan, np.empty(0), 0) | {"rows": 0}
    day, days = _days(asked_at)
    drawn = _draw(days, seed)

    def difference(rows: Any) -> float:
        return metric.loss(metric.compute(labels[rows], challenger[rows])) - metric.loss(
            metric.compute(labels[rows], champion[rows])
        )

    if metric.per_row is not None:  # a mean over rows: sums per day are enough
        losses = np.bincount(day, weights=metric.per_row(labels, challenger) - metric.per_row(labels, champion))
        rows_of = np.bincount(day)
        resampled = losses[drawn].sum(axis=1) / rows_of[drawn].sum(axis=1)
    else:
        members = np.split(np.argsort(day, kind="stable"), np.cumsum(np.bincount(day))[:-1])
        resampled = np.array([difference(np.concatenate([members[d] for d in each])) for each in drawn])
    return _interval(difference(slice(None)), resampled, days) | {"rows": len(labels)}


def compare_areas(task: Task, offline: Scored, served: Scored, seed: int) -> dict[str, Any]:
    """Difference of two areas under the ROC curve, with an interval from resampling whole days.

    Areas are those of the label's events, averaged (`Task.area`).

    As `compare_losses`, but the rows may differ: a day that is drawn brings the rows that either has of it, so that
    where both have the same rows the comparison is paired.

    Args:
        task: Of the labels and predictions.
        offline: One.
        served: The other, whose area is subtracted.
        seed: Of the resampling.

    Returns:
        `difference`, `low` and `high` (95 %), `days`.
    """
    day, days = _days(np.concatenate([offline.asked_at, served.asked_at]))
    cut = len(offline.asked_at)
    times = np.stack([np.bincount(each, minlength=days) for each in _draw(days, seed)]).astype(float)
    times = np.vstack([np.ones(days), times])  # first the days as they are
    difference, *resampled = _areas(task, offline, day[:cut], times) - _areas(task, served, day[cut:], times)
    return _interval(difference, np.array(resampled), days)


def _days(asked_at: NDArray[np.datetime64]) -> tuple[NDArray[np.int64], int]:
    """Each row's day, numbered from 0, and how many days there are."""
    found, day = np.unique(asked_at.astype("datetime64[D]"), return_inverse=True)
    return day, len(found)


def _draw(days: int, seed: int) -> NDArray[np.int64]:
    """Days drawn with replacement, shape (resamples, days)."""
    return np.random.default_rng(seed).integers(days, size=(RESAMPLES, days))


def _interval(difference: float, resampled: NDArray[np.float64], days: int) -> dict[str, Any]:
    finite = resampled[np.isfinite(resampled)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
    found = {"difference": difference, "low": low, "high": high}
    return {name: round(float(value), DIGITS) for name, value in found.items()} | {"days": days}


def _areas(task: Task, scored: Scored, day: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the areas under the ROC curve of the events that occur, shape (m,), as `_area`."""
    events, said = task.events(scored.labels).values(), task.event_scores(scored.said)
    areas = np.stack([_area(event, each, day, times) for event, each in zip(events, said, strict=True)])
    defined = np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        return np.where(defined, areas, 0).sum(axis=0) / defined.sum(axis=0)


def _area(
    ones: NDArray[np.bool_], scores: NDArray[np.float64], day: NDArray[np.int64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Areas under the ROC curve, shape (m,), where day d counts times[m, d] times; NaN where one label is missing.

    Pairs are counted once per pair of days; a resample is then a sum over these.
    """
    days = times.shape[1]
    zeros = [np.sort(scores[~ones & (day == each)]) for each in range(days)]
    said, day_of = scores[ones], day[ones]
    won = np.empty((days, days))
    for each, beaten in enumerate(zeros):
        wins = (np.searchsorted(beaten, said, "left") + np.searchsorted(beaten, said, "right")) / 2
        won[:, each] = np.bincount(day_of, weights=wins, minlength=days)
    pairs = (times @ np.bincount(day_of, minlength=days)) * (times @ np.array([len(each) for each in zeros]))
    with np.errstate(invalid="ignore"):
        return ((times @ won) * times).sum(axis=1) / pairs
