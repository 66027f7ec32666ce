"""Metrics of a binary label's probabilities: scikit-learn's, where it has them, in the form that reports need."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.errors import HindcastError

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
DIGITS = 10
"""Reported digits: two runs give the same text."""
BINS = 10
_EPSILON = np.finfo(np.float64).eps  # as in scikit-learn's log_loss


@dataclass(frozen=True)
class Metric:
    """One measure of a model.

    Attributes:
        compute: Labels (n,) of 0 and 1 and probabilities (n,) to a number.
        higher_is_better: Which way is good.
        per_row: Losses (n,) whose mean the metric is; None where it isn't a mean over rows.
    """

    compute: Callable[[Labels, Probabilities], float]
    higher_is_better: bool
    per_row: Callable[[Labels, Probabilities], NDArray[np.float64]] | None = None

    def loss(self, value: float) -> float:
        """The metric's value turned so that less is better."""
        return -value if self.higher_is_better else value


def roc_auc(labels: Labels, probabilities: Probabilities) -> float:
    """Area under the ROC curve, by ranks (Mann and Whitney's U); NaN where only one of the labels occurs.

    scikit-learn's takes three times as long, and the leak checks want two areas per feature; a test holds it to that.
    """
    from scipy.stats import rankdata  # takes a second to import

    ones = int(labels.sum())
    pairs = ones * (len(labels) - ones)
    won = rankdata(probabilities)[labels == 1].sum() - ones * (ones + 1) / 2
    return float(won / pairs) if pairs else float("nan")


def average_precision(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of the precision at each threshold, weighted by the recall it adds; NaN without a 1."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, probabilities)) if labels.any() else float("nan")


def log_losses(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Negative logarithm of what was said about each row's label, shape (n,)."""
    said = np.where(labels == 1, probabilities, 1 - probabilities)
    return -np.log(np.clip(said, _EPSILON, 1.0))


def brier_losses(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Squared distance of each probability from its label, shape (n,)."""
    return (probabilities - labels) ** 2


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of `log_losses`."""
    return float(log_losses(labels, probabilities).mean())


def calibration_bins(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> list[tuple[int, float, float]]:
    """Rows, mean probability and label rate of bins of about equally many rows; equal probabilities share one."""
    edges = np.unique(np.quantile(probabilities, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, probabilities, side="left")
    rows = np.bincount(bin_of)
    said, came = np.bincount(bin_of, weights=probabilities), np.bincount(bin_of, weights=labels)
    return [(int(n), float(p / n), float(y / n)) for n, p, y in zip(rows, said, came, strict=True) if n]


def calibration_error(labels: Labels, probabilities: Probabilities) -> float:
    """Expected calibration error: mean over rows of |mean probability - label rate| of their bin.

    Source: M. P. Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    found = calibration_bins(labels, probabilities)
    return sum(rows * abs(said - came) for rows, said, came in found) / len(labels)


METRICS = {
    "roc_auc": Metric(roc_auc, higher_is_better=True),
    "average_precision": Metric(average_precision, higher_is_better=True),
    "log_loss": Metric(log_loss, higher_is_better=False, per_row=log_losses),
    "brier": Metric(lambda y, p: float(brier_losses(y, p).mean()), higher_is_better=False, per_row=brier_losses),
    "calibration_error": Metric(calibration_error, higher_is_better=False),
}


def metric_named(name: str) -> Metric:
    """Raises:
    HindcastError: There is no such metric.
    """
    if name not in METRICS:
        raise HindcastError(f"There is no metric {name!r}; there are {', '.join(METRICS)}.")
    return METRICS[name]


def measure(labels: Labels, probabilities: Probabilities) -> dict[str, Any]:
    """Every metric, with `rows`, `label_rate` and `mean_probability`; None where one isn't defined (a single label)."""
    if not len(labels):
        return {"rows": 0, "label_rate": None, "mean_probability": None} | dict.fromkeys(METRICS)
    found = {name: metric.compute(labels, probabilities) for name, metric in METRICS.items()}
    found |= {"label_rate": float(labels.mean()), "mean_probability": float(probabilities.mean())}
    return {"rows": len(labels)} | {
        name: None if np.isnan(value) else round(value, DIGITS) for name, value in found.items()
    }


def confusion(labels: Labels, probabilities: Probabilities, threshold: float) -> dict[str, Any]:
    """Counts of decisions (1 from the threshold on) against labels, and the rates that people read off them."""
    from sklearn.metrics import confusion_matrix

    decided = (probabilities >= threshold).astype(np.int64)
    (rejections, false_alarms), (misses, hits) = confusion_matrix(labels, decided, labels=[0, 1]).tolist()
    shares = {
        "precision": (hits, hits + false_alarms),
        "recall": (hits, hits + misses),
        "f1": (2 * hits, 2 * hits + false_alarms + misses),
        "accuracy": (hits + rejections, len(labels)),
    }
    return {
        "threshold": threshold,
        "true_positive": hits,
        "false_positive": false_alarms,
        "false_negative": misses,
        "true_negative": rejections,
    } | {name: round(part / whole, DIGITS) if whole else None for name, (part, whole) in shares.items()}


def best_f1_threshold(labels: Labels, probabilities: Probabilities) -> float:
    """Where F1 is highest: the middle between the last probability that counts as 1 and the next lower one."""
    values, tied = np.unique(probabilities, return_inverse=True)
    # From each value on: hits and decisions.
    hits = np.cumsum(np.bincount(tied, weights=labels)[::-1])[::-1]
    decisions = np.cumsum(np.bincount(tied)[::-1])[::-1]
    best = int(np.argmax(2 * hits / (decisions + labels.sum())))
    below = values[best - 1] if best else 0.0
    return round(float(values[best] + below) / 2, DIGITS)
