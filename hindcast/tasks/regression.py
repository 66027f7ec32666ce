"""The task regression: a label that is a number, a value with an interval of a stated coverage, and no decision."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.tasks import drawing
from hindcast.tasks.binary import roc_auc
from hindcast.tasks.intervals import Interval
from hindcast.tasks.multiclass import relative_gain
from hindcast.tasks.task import DIGITS, Calibration, Labels, Metric, Picture, Predictions, Task

if TYPE_CHECKING:
    from hindcast.problem import Metrics

LOG = "log1p"
COVERAGE = 0.8
_SECOND = {"max_iter": 50, "learning_rate": 0.1, "max_leaf_nodes": 15, "min_samples_leaf": 200, "early_stopping": False}


def _squared_log(labels: Labels, said: Predictions) -> NDArray[np.float64]:
    known = np.where(labels < 0, np.nan, labels)  # of labels below 0 the metric says nothing
    return (np.log1p(np.maximum(said[:, 0], 0.0)) - np.log1p(known)) ** 2


def _r2(labels: Labels, said: Predictions) -> float:
    spread = ((labels - labels.mean()) ** 2).sum()
    return float(1 - ((labels - said[:, 0]) ** 2).sum() / spread) if spread else float("nan")


def above_median(labels: Labels) -> NDArray[np.bool_]:
    """Whether each label lies above the median of all, shape (n,); where more than half are the highest, whether it is
    one of those."""
    above = labels > np.median(labels)
    return above if above.any() else labels == labels.max(initial=-np.inf)


def _area(labels: Labels, said: Predictions) -> float:
    return roc_auc(above_median(labels), said[:, 0])


def _covered(labels: Labels, said: Predictions) -> NDArray[np.float64]:
    inside = (said[:, 1] <= labels) & (labels <= said[:, 2])
    return np.where(np.isnan(said[:, 1]), np.nan, inside)


def _ridge(**parameters: Any) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(**parameters)


def _boosting(**parameters: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    if parameters.get("loss") in ("poisson", "gamma"):
        raise ValueError(f"loss {parameters['loss']} can't be exported rightly; declare label.scale: log1p instead")
    return HistGradientBoostingRegressor(**parameters)


METRICS = {
    "mae": Metric(lambda y, p: float(np.abs(y - p[:, 0]).mean()), per_row=lambda y, p: np.abs(y - p[:, 0])),
    "rmse": Metric(lambda y, p: float(np.sqrt(((y - p[:, 0]) ** 2).mean()))),
    "rmsle": Metric(lambda y, p: float(np.sqrt(_squared_log(y, p).mean()))),
    "r2": Metric(_r2, higher_is_better=True),
    "roc_auc_above_median": Metric(_area, higher_is_better=True, decides=False),
    "coverage": Metric(lambda y, p: float(_covered(y, p).mean()), higher_is_better=True, decides=False),
    "interval_width": Metric(lambda y, p: float((p[:, 2] - p[:, 1]).mean()), decides=False),
}
GRAPH_OPTIONS: dict[str, Any] = {}
FAMILIES = {"ridge": _ridge, "hist_gradient_boosting": _boosting}


class Regression(Task):
    """As `Task` says; on the scale `log1p`, the model is fitted to log(1 + label), which is never below 0."""

    name = "regression"
    metrics = METRICS
    ordering = "roc_auc_above_median"
    area = "roc_auc_above_median"
    families = FAMILIES
    summary_metrics = ("mae", "rmse", "coverage", "interval_width")
    baseline_names = ("mean", "historic_mean")
    outputs = ("value", "lower", "upper")
    scores = ("score",)
    score_unit = "the label's unit"
    quantity = ("value", "values")
    allowed = None
    label_types = ("double", "float", "real", "decimal", "integer", "bigint", "smallint", "tinyint")
    graph_options = GRAPH_OPTIONS

    def __init__(self, classes: tuple[str, ...] = (), scale: str | None = None) -> None:
        super().__init__(classes)
        if scale not in (None, LOG):
            raise HindcastError(f"label.scale: the task regression knows {LOG}, not {scale!r}.")
        self.scale = scale
        if scale == LOG:
            self.score_unit = "log(1 + label)"

    def check_metrics(self, metrics: "Metrics") -> None:
        if metrics.threshold is not None:
            raise HindcastError("metrics.threshold: only the task binary decides by one.")

    def labels(self, values: Sequence[Any] | NDArray[Any]) -> Labels:
        found = np.asarray(values).astype(np.float64)
        if self.scale == LOG and (found < 0).any():
            raise HindcastError(f"label.scale: {LOG} needs labels from 0 on, and there is {found.min():g}.")
        return found

    def check_variety(self, labels: Labels, where: str, learned_from: bool = False) -> None:
        if len(np.unique(labels)) < 2:
            raise HindcastError(
                f"{where} has {len(labels)} rows with the same label, or none; there must be different ones. Are its "
                "dates, and the data's, as meant?"
            )

    def means(self, labels: Labels) -> NDArray[np.float64]:
        return self.target(labels)[:, None]

    def from_means(self, means: NDArray[np.float64]) -> Predictions:
        return self._values(means[:, 0])

    def describe(self, means: NDArray[np.float64]) -> str:
        scaled = " on its scale of log(1 + label)" if self.scale == LOG else ""
        return f"Mean label in the training window{scaled}: {means[0]:.3f}."

    def events(self, labels: Labels) -> dict[str, NDArray[np.bool_]]:
        return {"the label is above its median": above_median(labels)}

    def event_scores(self, said: Predictions) -> list[NDArray[np.float64]]:
        return [said[:, 0]]

    def target(self, labels: Labels) -> NDArray[Any]:
        return np.log1p(labels) if self.scale == LOG else labels

    def _values(self, scaled: NDArray[np.float64]) -> Predictions:
        with np.errstate(over="ignore"):  # becomes infinite, which the service refuses to answer
            values = np.maximum(np.expm1(scaled), 0.0) if self.scale == LOG else scaled
        return np.stack([values, np.full_like(values, np.nan), np.full_like(values, np.nan)], axis=1)

    def second_model(self, estimator: Any, matrix: NDArray[np.float32], labels: Labels, seed: int) -> Any:
        """Of how far labels lie from values, on their scale: it need only order rows from certain to uncertain."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        errors = np.abs(self.target(labels) - estimator.predict(matrix))
        return HistGradientBoostingRegressor(**_SECOND, random_state=seed).fit(matrix, errors)

    def predict(self, estimator: Any, matrix: NDArray[np.float32], second: Any = None) -> Predictions:
        """Until a calibration completes them, bounds lie as far from the value as the second model thinks labels do."""
        scaled = estimator.predict(matrix).astype(np.float64)
        errors = second.predict(matrix) if second is not None else np.full_like(scaled, np.nan)
        return self._said(scaled, errors)

    def read_graph(self, raw: NDArray[Any]) -> Predictions:
        said = raw.reshape(len(raw), -1).astype(np.float64)
        return self._said(said[:, 0], said[:, 1] if said.shape[1] > 1 else np.full(len(said), np.nan))

    def _said(self, scaled: NDArray[np.float64], errors: NDArray[np.float64]) -> Predictions:
        return np.stack([self._values(each)[:, 0] for each in (scaled, scaled - errors, scaled + errors)], axis=1)

    def _scaled(self, said: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values, and how far labels are thought to lie from them, both on the label's scale; 0 where nobody knows."""
        values = self.target(said[:, 0])
        return values, np.nan_to_num(self.target(said[:, 2]) - values)

    def raw_scores(self, said: Predictions) -> NDArray[np.float64]:
        return self.target(said[:, 0])[:, None]

    def score_differences(self, scores: NDArray[np.float64], said: Predictions) -> NDArray[np.float64]:
        found, expected = self.raw_scores(self._values(scores[:, 0])), self.raw_scores(said)
        # float32 sums are as exact as their largest part, however near to 0 they come out.
        return np.abs(found - expected) / np.abs(expected).max(initial=1.0)

    def parity_scale(self, labels: Labels) -> float:
        return float(np.abs(labels).max()) or 1.0

    def distance(self, one: Predictions, other: Predictions, scale: float) -> NDArray[np.float64]:
        if self.scale == LOG:  # the model's sums are rounded on its own scale
            one, other = (np.sign(each) * np.log1p(np.abs(each)) for each in (one, other))
            scale = max(1.0, float(np.log1p(scale)))
        return np.abs(one - other) / scale

    def calibrate(self, metrics: "Metrics", labels: Labels, said: Predictions) -> dict[str, Any]:
        coverage = metrics.coverage or COVERAGE
        interval = Interval.fit(*self._scaled(said), self.target(labels), coverage)
        return {"coverage": coverage, "interval": interval.to_json()}

    def complete(self, said: Predictions, calibration: Calibration) -> Predictions:
        if "interval" not in calibration:
            return said
        lower, upper = Interval.from_json(calibration["interval"]).bounds(*self._scaled(said))
        bounds = [self._values(bound)[:, 0] for bound in (lower, upper)]
        return np.stack([said[:, 0], *bounds], axis=1)

    def decide(self, said: Predictions, calibration: Calibration) -> None:
        return None

    def decision(self, code: int) -> int | str:
        raise HindcastError("The task regression decides nothing.")

    def answer(self, said: NDArray[np.float64], calibration: Calibration) -> dict[str, Any]:
        value, lower, upper = said.tolist()
        return {"value": value, "lower": lower, "upper": upper, "coverage": calibration["coverage"]}

    def answer_form(self) -> dict[str, tuple[Any, str]]:
        return {
            "value": (float, "In the label's unit."),
            "lower": (float, "Of the interval."),
            "upper": (float, "Of the interval."),
            "coverage": self.calibration_form()["coverage"],
        }

    def calibration_form(self) -> dict[str, tuple[Any, str]]:
        coverage = "The share of labels that the interval is to hold, calibrated on later data than the model has seen."
        return {
            "coverage": (float, coverage),
            "interval": (dict[str, Any], f"What is added to a value for its ends, by its size, in {self.score_unit}."),
        }

    def measure_means(self, labels: Labels, said: Predictions) -> dict[str, Any]:
        means = {"label_mean": labels, "mean_value": said[:, 0]}
        return {name: round(float(values.mean()), DIGITS) if len(labels) else None for name, values in means.items()}

    def details(self, labels: Labels, said: Predictions, calibration: Calibration) -> dict[str, Any]:
        if not len(labels):
            return {"residual_quantiles": {}}
        residuals = labels - said[:, 0]
        quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
        return {
            "residual_quantiles": {str(each): round(float(np.quantile(residuals, each)), DIGITS) for each in quantiles}
        }

    def explain_details(self, details: Mapping[str, Any]) -> str:
        found = details["residual_quantiles"]
        if not found:
            return "There are no rows."
        return (
            f"Half of the labels lie between {found['0.25']:+.3g} and {found['0.75']:+.3g} from the value, nine of ten "
            f"between {found['0.05']:+.3g} and {found['0.95']:+.3g}."
        )

    def gain(self, model: Mapping[str, Any], historic: Mapping[str, Any], primary: str) -> tuple[float | None, str]:
        return relative_gain(self.metric(primary), model[primary], historic[primary], primary)

    def pictures(
        self, labels: Labels, said: Mapping[str, Predictions], chosen: str, calibration: Calibration
    ) -> dict[str, Picture]:
        values = {name: each[:, 0] for name, each in said.items()}
        best, inside, promised = values[chosen], _covered(labels, said[chosen]), calibration.get("coverage")
        return {
            "Label and value": Picture(lambda axes: drawing.against(axes, labels, best)),
            "Residuals": Picture(lambda axes: drawing.residuals(axes, labels, values)),
            "Coverage by value": Picture(lambda axes: drawing.coverage(axes, best, inside, promised)),
        }

    def change(self, before: Predictions, after: Predictions) -> NDArray[np.float64]:
        return after[:, 0] - before[:, 0]  # the interval goes with the value

    def promises(self, labels: Labels, said: Predictions, calibration: Calibration) -> dict[str, tuple[float, float]]:
        if "coverage" not in calibration:
            return {}
        return {"coverage": (float(_covered(labels, said).mean()), calibration["coverage"])}

    def estimate(self, said: Predictions, calibration: Calibration) -> dict[str, float]:
        return {"coverage": calibration["coverage"]} if "coverage" in calibration else {}

    def evidently(self, calibration: Calibration) -> tuple[dict[str, Any], Any, dict[str, str]]:
        from evidently import Regression as Target
        from evidently.presets import RegressionPreset

        names = {"MAE": "mae", "RMSE": "rmse", "R2Score": "r2"}
        return {"regression": [Target(target="label", prediction="value")]}, RegressionPreset(), names
