"""The task multiclass: a label of several classes, a probability of each, and the likeliest as the decision."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.tasks import drawing
from hindcast.tasks.binary import FAMILIES, GRAPH_OPTIONS, calibration_bins, roc_auc
from hindcast.tasks.task import DIGITS, LEAST_ROWS, Calibration, Labels, Metric, Picture, Predictions, Task

if TYPE_CHECKING:
    from hindcast.problem import Metrics

_EPSILON = np.finfo(np.float64).eps  # as in scikit-learn's log_loss
_TARGET = "true label"  # of Evidently's page, where a column is named as each class: it must not be one


def log_losses(labels: Labels, said: Predictions) -> NDArray[np.float64]:
    """Negative logarithm of the probability of each row's class, shape (n,)."""
    return -np.log(np.clip(said[np.arange(len(labels)), labels], _EPSILON, 1.0))


def brier_losses(labels: Labels, said: Predictions) -> NDArray[np.float64]:
    """Squared distances of each row's probabilities from its class, added up over the classes, shape (n,).

    Source: G. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78, 1950.
    """
    return ((said - one_hot(labels, said.shape[1])) ** 2).sum(axis=1)


def one_hot(labels: Labels, classes: int) -> NDArray[np.float64]:
    """1 in each row's class and 0 elsewhere, shape (n, classes)."""
    return np.eye(classes)[labels]


def class_areas(labels: Labels, said: Predictions) -> NDArray[np.float64]:
    """Areas under the ROC curve of each class against the others, shape (classes,); NaN where it doesn't occur."""
    return np.array([roc_auc(labels == code, said[:, code]) for code in range(said.shape[1])])


def _mean_area(labels: Labels, said: Predictions) -> float:
    areas = class_areas(labels, said)
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def _highest_area(labels: Labels, said: Predictions) -> float:
    areas = class_areas(labels, said)
    rare = np.bincount(labels, minlength=len(areas)) < LEAST_ROWS
    areas = areas if rare.all() else np.where(rare, np.nan, areas)
    return float(np.nanmax(areas)) if np.isfinite(areas).any() else float("nan")


def _accuracy(labels: Labels, said: Predictions) -> float:
    return float((said.argmax(axis=1) == labels).mean())


def _macro_f1(labels: Labels, said: Predictions) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels, said.argmax(axis=1), average="macro", labels=np.unique(labels), zero_division=0))


METRICS = {
    "log_loss": Metric(lambda y, p: float(log_losses(y, p).mean()), per_row=log_losses),
    "accuracy": Metric(_accuracy, higher_is_better=True),
    "macro_f1": Metric(_macro_f1, higher_is_better=True),
    "roc_auc": Metric(_mean_area, higher_is_better=True),
    "highest_roc_auc": Metric(_highest_area, higher_is_better=True, decides=False),
    "brier": Metric(lambda y, p: float(brier_losses(y, p).mean()), per_row=brier_losses),
}


class Multiclass(Task):
    """As `Task` says; the classes are those that the problem file declares, in its order."""

    name = "multiclass"
    label_types = ("varchar", "integer", "bigint", "smallint", "tinyint")
    metrics = METRICS
    ordering = "highest_roc_auc"
    area = "roc_auc"
    families = FAMILIES
    summary_metrics = ("log_loss", "accuracy", "macro_f1", "roc_auc")
    baseline_names = ("class_rates", "historic_class_rates")
    score_unit = "log-odds against the classes' average"
    graph_options = GRAPH_OPTIONS

    def __init__(self, classes: tuple[str, ...] = (), scale: str | None = None) -> None:
        super().__init__((), scale)
        if len(classes) < 2 or len({name.lower() for name in classes}) < len(classes):  # as columns, case is lost
            raise HindcastError(
                "label.classes: the task multiclass needs two or more classes that differ by more than case, in the "
                f"order of their codes, not {list(classes)}."
            )
        self.classes = classes

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(f"probability_{each}" for each in self.classes)

    @property
    def scores(self) -> tuple[str, ...]:
        return self.classes

    def check_metrics(self, metrics: "Metrics") -> None:
        if metrics.coverage is not None:
            raise HindcastError("metrics.coverage: only the task regression has intervals.")
        if metrics.threshold is not None:
            raise HindcastError("metrics.threshold: only the task binary decides by one.")

    @property
    def allowed(self) -> Sequence[Any]:
        return self.classes

    def labels(self, values: Sequence[Any] | NDArray[Any]) -> Labels:
        codes = {name: code for code, name in enumerate(self.classes)}
        try:
            return np.array([codes[str(value)] for value in values], dtype=np.int64)
        except KeyError as error:
            raise HindcastError(f"label.classes: {error.args[0]!r} isn't among {', '.join(self.classes)}.") from error

    def check_variety(self, labels: Labels, where: str, learned_from: bool = False) -> None:
        there = np.bincount(labels, minlength=len(self.classes)) > 0
        if there.sum() < 2 or (learned_from and not there.all()):
            absent = [name for name, occurs in zip(self.classes, there, strict=True) if not occurs]
            raise HindcastError(
                f"{where} has {len(labels)} rows, none of the class {', '.join(absent)}. Are its dates, and "
                "label.classes, as meant?"
            )

    def means(self, labels: Labels) -> NDArray[np.float64]:
        return one_hot(labels, len(self.classes))

    def from_means(self, means: NDArray[np.float64]) -> Predictions:
        return means

    def describe(self, means: NDArray[np.float64]) -> str:
        rates = ", ".join(f"{name} {rate:.3f}" for name, rate in zip(self.classes, means, strict=True))
        return f"Rates of the classes in the training window: {rates}."

    def events(self, labels: Labels) -> dict[str, NDArray[np.bool_]]:
        return {f"the label is {name}": labels == code for code, name in enumerate(self.classes)}

    def event_scores(self, said: Predictions) -> list[NDArray[np.float64]]:
        return list(said.T)

    def target(self, labels: Labels) -> NDArray[Any]:
        return labels

    def predict(self, estimator: Any, matrix: NDArray[np.float32], second: Any = None) -> Predictions:
        return self._spread(estimator.classes_, estimator.predict_proba(matrix).astype(np.float64))

    def _spread(self, codes: NDArray[np.int64], said: NDArray[np.float64]) -> Predictions:
        if len(codes) == len(self.classes):
            return said
        found = np.zeros((len(said), len(self.classes)))  # a class that a fold never saw has no probability
        found[:, codes] = said
        return found

    def read_graph(self, raw: NDArray[Any]) -> Predictions:
        said = np.clip(raw.astype(np.float64), 0.0, 1.0)
        return said / said.sum(axis=1, keepdims=True)  # float32 sums miss 1 by 1e-7

    def raw_scores(self, said: Predictions) -> NDArray[np.float64]:
        # Of two classes, one's float32 probability is 1 less the other's: as in `binary`, small ones aren't exact.
        logs = np.log(np.maximum(said, 1e-3 if len(self.classes) == 2 else 1e-9))
        return logs - logs.mean(axis=1, keepdims=True)

    def score_differences(self, scores: NDArray[np.float64], said: Predictions) -> NDArray[np.float64]:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.abs(self.raw_scores(powers / powers.sum(axis=1, keepdims=True)) - self.raw_scores(said))

    def parity_scale(self, labels: Labels) -> float:
        return 1.0

    def calibrate(self, metrics: "Metrics", labels: Labels, said: Predictions) -> dict[str, Any]:
        return {}

    def decide(self, said: Predictions, calibration: Calibration) -> NDArray[np.int64]:
        return said.argmax(axis=1)

    def decision(self, code: int) -> str:
        return self.classes[code]

    def answer(self, said: NDArray[np.float64], calibration: Calibration) -> dict[str, Any]:
        return {
            "probabilities": dict(zip(self.classes, said.tolist(), strict=True)),
            "decision": self.classes[int(said.argmax())],
        }

    def answer_form(self) -> dict[str, tuple[Any, str]]:
        from pydantic import Field

        return {
            "probabilities": (dict[str, Annotated[float, Field(ge=0, le=1)]], "Of each class; together they are 1."),
            "decision": (str, "The likeliest class."),
        }

    def calibration_form(self) -> dict[str, tuple[Any, str]]:
        return {}

    def measure_means(self, labels: Labels, said: Predictions) -> dict[str, Any]:
        means = {
            "rate": one_hot(labels, len(self.classes)).mean(axis=0) if len(labels) else None,
            "mean_probability": said.mean(axis=0) if len(labels) else None,
        }
        return {
            f"{what}_{name}": None if values is None else round(float(values[code]), DIGITS)
            for what, values in means.items()
            for code, name in enumerate(self.classes)
        }

    def details(self, labels: Labels, said: Predictions, calibration: Calibration) -> dict[str, Any]:
        from sklearn.metrics import confusion_matrix

        codes = np.arange(len(self.classes))
        decided = said.argmax(axis=1)
        counts = confusion_matrix(labels, decided, labels=codes) if len(labels) else np.zeros((len(codes),) * 2, int)
        areas = class_areas(labels, said)
        return {
            "classes": list(self.classes),
            "confusion": counts.tolist(),
            "roc_auc": {
                name: None if np.isnan(area) else round(float(area), DIGITS)
                for name, area in zip(self.classes, areas, strict=True)
            },
        }

    def explain_details(self, details: Mapping[str, Any]) -> str:
        told = []
        for code, (name, row) in enumerate(zip(details["classes"], details["confusion"], strict=True)):
            told.append(f"{row[code]:,} of {sum(row):,} of {name}")
        return f"The likeliest class is right for {', '.join(told)}."

    def gain(self, model: Mapping[str, Any], historic: Mapping[str, Any], primary: str) -> tuple[float | None, str]:
        return relative_gain(self.metric(primary), model[primary], historic[primary], primary)

    def pictures(
        self, labels: Labels, said: Mapping[str, Predictions], chosen: str, calibration: Calibration
    ) -> dict[str, Picture]:
        best = said[chosen]
        counts = self.details(labels, best, calibration)["confusion"]
        events = dict(zip(self.classes, self.events(labels).values(), strict=True))
        bins = {name: calibration_bins(event, best[:, code]) for code, (name, event) in enumerate(events.items())}
        return {
            "Confusion": Picture(lambda axes: drawing.confusion(axes, self.classes, counts)),
            "ROC per class": Picture(lambda axes: drawing.class_curves(axes, events, self.event_scores(best))),
            "Calibration per class": Picture(lambda axes: drawing.calibration(axes, bins)),
        }

    def estimate(self, said: Predictions, calibration: Calibration) -> dict[str, float]:
        from scipy.stats import entropy

        # As `binary.estimated_performance`: each row counts as every class, by its probability.
        return {"log_loss": float(entropy(said, axis=1).mean()), "accuracy": float(said.max(axis=1).mean())}

    def evidently(self, calibration: Calibration) -> tuple[dict[str, Any], Any, dict[str, str]]:
        from evidently import BinaryClassification, MulticlassClassification
        from evidently.presets import ClassificationPreset

        names = {"LogLoss": "log_loss", "Accuracy": "accuracy", "RocAuc": "roc_auc"}
        if len(self.classes) == 2:  # it takes two columns of probabilities for a binary target without a positive label
            pair = BinaryClassification(target=_TARGET, prediction_probas=self.classes[1], pos_label=self.classes[1])
            return {"classification": [pair]}, ClassificationPreset(), names
        target = MulticlassClassification(target=_TARGET, prediction_probas=list(self.classes))
        return {"classification": [target]}, ClassificationPreset(), names | {"F1Score": "macro_f1"}

    def evidently_columns(self, labels: Labels, said: Predictions) -> dict[str, NDArray[Any]]:
        # It finds a class's probabilities in the column that is named as the class.
        return {_TARGET: np.array(self.classes, dtype=object)[labels]} | dict(zip(self.classes, said.T, strict=True))


def relative_gain(metric: Metric, model: float | None, historic: float | None, name: str) -> tuple[float | None, str]:
    """By which share a model's metric is better than a baseline's: of the loss, or of what is missing to 1."""
    if model is None or historic is None:
        return None, f"of {name}, which isn't defined"
    ours, theirs = (1 - model, 1 - historic) if metric.higher_is_better else (model, historic)
    found = round(1 - ours / theirs, DIGITS) if theirs else None
    return found, f"of {name}, {model:.4f} against {historic:.4f}"
