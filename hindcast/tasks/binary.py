"""The task binary: a label of 0 or 1, a probability of 1, and a decision from a threshold on.

Metrics are scikit-learn's, where it has them, in the form that reports need.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.tasks import drawing
from hindcast.tasks.task import DIGITS, Calibration, Labels, Metric, Picture, Predictions, Task

if TYPE_CHECKING:
    from hindcast.problem import Metrics

Probabilities = NDArray[np.float64]
BINS = 10
_EPSILON = np.finfo(np.float64).eps  # as in scikit-learn's log_loss


def roc_auc(labels: NDArray[Any], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve, by ranks (Mann and Whitney's U); NaN where only one of the labels occurs.

    scikit-learn's takes three times as long, and the leak checks want two areas per feature; a test holds it to that.

    Args:
        labels: 0 or 1, or truth values, shape (n,).
        scores: Shape (n,).
    """
    from scipy.stats import rankdata  # takes a second to import

    ones = int(labels.sum())
    pairs = ones * (len(labels) - ones)
    won = rankdata(scores)[labels == 1].sum() - ones * (ones + 1) / 2
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


def choose_threshold(rule: str | float, labels: Labels, probabilities: Probabilities) -> float:
    """Where a probability becomes a decision.

    Args:
        rule: `best_f1`; `base_rate` (as many decisions as there are 1s); or a probability.
        labels: Of the validation window, shape (n,).
        probabilities: Shape (n,).
    """
    if rule == "best_f1":
        return best_f1_threshold(labels, probabilities)
    if rule == "base_rate":
        return round(float(np.quantile(probabilities, 1 - labels.mean())), DIGITS)
    return float(rule)


def estimated_performance(probability: Probabilities, threshold: float) -> dict[str, float]:
    """Performance without labels, if the probabilities are right (confidence-based estimation, CBPE).

    Each row counts as p of a positive and 1 - p of a negative; the metrics' expectations follow. It can't see that
    the relation between features and label has changed: an estimate beside the realised, never instead of it.
    Source: NannyML's documentation, "How it works: confidence-based performance estimation".

    Args:
        probability: Of the positive label, shape (n,), n > 0.
        threshold: From which on a probability is a positive decision.

    Returns:
        `log_loss`, `roc_auc` (NaN where every probability is 0, or 1), `accuracy`.
    """
    from scipy.stats import entropy
    from sklearn.metrics import roc_auc_score

    shares = np.stack([probability, 1 - probability])
    area = float("nan")
    if (shares.sum(axis=1) > 0).all():
        labels, twice = np.repeat([1, 0], len(probability)), np.tile(probability, 2)
        area = float(roc_auc_score(labels, twice, sample_weight=shares.ravel()))
    return {
        "log_loss": float(entropy(shares).mean()),
        "roc_auc": area,
        "accuracy": float(np.where(probability >= threshold, shares[0], shares[1]).mean()),
    }


def _logistic(**parameters: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**parameters)


def _boosting(**parameters: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(**parameters)


METRICS = {
    "roc_auc": Metric(lambda y, p: roc_auc(y, p[:, 0]), higher_is_better=True),
    "average_precision": Metric(lambda y, p: average_precision(y, p[:, 0]), higher_is_better=True),
    "log_loss": Metric(lambda y, p: float(log_losses(y, p[:, 0]).mean()), per_row=lambda y, p: log_losses(y, p[:, 0])),
    "brier": Metric(lambda y, p: float(brier_losses(y, p[:, 0]).mean()), per_row=lambda y, p: brier_losses(y, p[:, 0])),
    "calibration_error": Metric(lambda y, p: calibration_error(y, p[:, 0])),
}
FAMILIES = {"logistic_regression": _logistic, "hist_gradient_boosting": _boosting}
GRAPH_OPTIONS = {"zipmap": False}


class Binary(Task):
    """As `Task` says."""

    name = "binary"
    metrics = METRICS
    ordering = "roc_auc"
    area = "roc_auc"
    families = FAMILIES
    summary_metrics = ("label_rate", "roc_auc", "log_loss", "calibration_error")
    baseline_names = ("base_rate", "historic_rate")
    outputs = ("probability",)
    scores = ("score",)
    score_unit = "log-odds"
    allowed = (0, 1)
    label_types = ("integer", "bigint", "smallint", "tinyint", "boolean")
    graph_options = GRAPH_OPTIONS

    def check_metrics(self, metrics: "Metrics") -> None:
        if metrics.coverage is not None:
            raise HindcastError("metrics.coverage: only the task regression has intervals.")

    def labels(self, values: Sequence[Any] | NDArray[Any]) -> Labels:
        return np.asarray(values).astype(np.int64)

    def check_variety(self, labels: Labels, where: str, learned_from: bool = False) -> None:
        if (found := len(np.unique(labels))) < 2:
            raise HindcastError(
                f"{where} has {len(labels)} rows with {found} different labels; both labels must occur. Are its "
                "dates, and the data's, as meant?"
            )

    def means(self, labels: Labels) -> NDArray[np.float64]:
        return labels.astype(np.float64)[:, None]

    def from_means(self, means: NDArray[np.float64]) -> Predictions:
        return means

    def describe(self, means: NDArray[np.float64]) -> str:
        return f"Label rate in the training window: {means[0]:.3f}."

    def events(self, labels: Labels) -> dict[str, NDArray[np.bool_]]:
        return {"the label is 1": labels == 1}

    def event_scores(self, said: Predictions) -> list[NDArray[np.float64]]:
        return [said[:, 0]]

    def target(self, labels: Labels) -> NDArray[Any]:
        return labels

    def predict(self, estimator: Any, matrix: NDArray[np.float32], second: Any = None) -> Predictions:
        return estimator.predict_proba(matrix)[:, 1:].astype(np.float64)

    def read_graph(self, raw: NDArray[Any]) -> Predictions:
        return np.clip(raw[:, 1:].astype(np.float64), 0.0, 1.0)  # float32 sums may leave it by 1e-7

    def raw_scores(self, said: Predictions) -> NDArray[np.float64]:
        known = said.clip(0.001, 0.999)  # beyond, a float32 probability no longer tells scores apart
        return np.log(known) - np.log1p(-known)

    def score_differences(self, scores: NDArray[np.float64], said: Predictions) -> NDArray[np.float64]:
        return np.abs(scores.clip(*self.raw_scores(np.array([0.0, 1.0]))) - self.raw_scores(said))

    def parity_scale(self, labels: Labels) -> float:
        return 1.0

    def calibrate(self, metrics: "Metrics", labels: Labels, said: Predictions) -> dict[str, Any]:
        return {"threshold": choose_threshold(metrics.threshold or "best_f1", labels, said[:, 0])}

    def decide(self, said: Predictions, calibration: Calibration) -> NDArray[np.int64]:
        return (said[:, 0] >= calibration["threshold"]).astype(np.int64)

    def decision(self, code: int) -> int:
        return int(code)

    def answer(self, said: NDArray[np.float64], calibration: Calibration) -> dict[str, Any]:
        probability, threshold = float(said[0]), calibration["threshold"]
        return {"probability": probability, "decision": int(probability >= threshold), "threshold": threshold}

    def answer_form(self) -> dict[str, tuple[Any, str]]:
        from pydantic import Field

        return {
            "probability": (Annotated[float, Field(ge=0, le=1)], "Of the label being 1."),
            "decision": (int, "1 where the probability reaches the threshold, else 0."),
        } | self.calibration_form()

    def calibration_form(self) -> dict[str, tuple[Any, str]]:
        return {"threshold": (float, "Chosen on the validation window.")}

    def measure_means(self, labels: Labels, said: Predictions) -> dict[str, Any]:
        if not len(labels):
            return {"label_rate": None, "mean_probability": None}
        return {
            "label_rate": round(float(labels.mean()), DIGITS),
            "mean_probability": round(float(said[:, 0].mean()), DIGITS),
        }

    def details(self, labels: Labels, said: Predictions, calibration: Calibration) -> dict[str, Any]:
        bins = calibration_bins(labels, said[:, 0]) if len(labels) else []
        return confusion(labels, said[:, 0], calibration["threshold"]) | {
            "calibration": [
                {"rows": n, "mean_probability": round(p, DIGITS), "label_rate": round(y, DIGITS)} for n, p, y in bins
            ]
        }

    def explain_details(self, details: Mapping[str, Any]) -> str:
        found = details["true_positive"]
        return (
            f"From {details['threshold']:.3f} on, the decision is 1: so {found:,} of "
            f"{found + details['false_negative']:,} with label 1 are decided, and {details['false_positive']:,} of the "
            "others."
        )

    def gain(self, model: Mapping[str, Any], historic: Mapping[str, Any], primary: str) -> tuple[float | None, str]:
        ours, theirs = model["roc_auc"], historic["roc_auc"]
        found = None if ours is None or theirs is None else round(ours - theirs, DIGITS)
        return found, f"of ROC AUC, {ours} against {theirs}"

    def pictures(
        self, labels: Labels, said: Mapping[str, Predictions], chosen: str, calibration: Calibration
    ) -> dict[str, Picture]:
        scores = {name: each[:, 0] for name, each in said.items()}
        best, threshold = scores[chosen], calibration["threshold"]
        bins, found = {chosen: calibration_bins(labels, best)}, confusion(labels, best, threshold)
        counts = [
            [found["true_negative"], found["false_positive"]],
            [found["false_negative"], found["true_positive"]],
        ]
        title = f"Confusion at {threshold:.3f}"
        return {
            "ROC and precision-recall": Picture(lambda axes: drawing.curves(axes, labels, scores), 2),
            "Calibration": Picture(lambda axes: drawing.calibration(axes, bins)),
            "Confusion": Picture(lambda axes: drawing.confusion(axes, (0, 1), counts, title)),
            "Scores": Picture(lambda axes: drawing.scores_by_label(axes, labels, best, threshold)),
        }

    def estimate(self, said: Predictions, calibration: Calibration) -> dict[str, float]:
        return estimated_performance(said[:, 0], calibration["threshold"])

    def evidently(self, calibration: Calibration) -> tuple[dict[str, Any], Any, dict[str, str]]:
        from evidently import BinaryClassification
        from evidently.presets import ClassificationPreset

        target = BinaryClassification(target="label", prediction_probas="probability", pos_label=1)
        names = {"RocAuc": "roc_auc", "LogLoss": "log_loss", "Accuracy": "accuracy", "Precision": "precision"}
        names |= {"Recall": "recall", "F1Score": "f1"}
        return {"classification": [target]}, ClassificationPreset(probas_threshold=calibration["threshold"]), names
