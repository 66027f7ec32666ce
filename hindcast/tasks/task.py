"""The interface of a task: what a problem's kind of label decides, from checking labels to wording an answer.

Everywhere else, labels are an array of shape (n,) and predictions one of shape (n, outputs); what their numbers mean
only a task knows. Needs numpy alone at import: the service asks it for its answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hindcast.errors import HindcastError

if TYPE_CHECKING:  # the form of the file, which the service doesn't carry
    from hindcast.problem import Metrics

Labels = NDArray[Any]
"""Shape (n,): codes (int64) of binary and multiclass labels, values (float64) of regression's."""
Predictions = NDArray[np.float64]
"""Shape (n, outputs), columns as `Task.outputs` names them."""
Calibration = Mapping[str, Any]
"""What was chosen on the validation window, as JSON holds it: a threshold, or an interval's bounds."""
Draw = Callable[[Any], None]
"""Draws on Matplotlib's axes: on one, or on a row of them."""
DIGITS = 10
"""Reported digits: two runs give the same text."""
LEAST_ROWS = 30
"""In which one of several events must come for its own area under the ROC curve to be judged: that of fewer is high by
chance."""


@dataclass(frozen=True)
class Metric:
    """One measure of a model.

    Attributes:
        compute: Labels (n,) and predictions (n, outputs) to a number; NaN where it isn't defined on them.
        higher_is_better: Which way is good.
        per_row: Losses (n,) whose mean the metric is; None where it isn't a mean over rows.
        decides: Whether it may be the primary metric: a width or a coverage alone says nothing.
    """

    compute: Callable[[Labels, Predictions], float]
    higher_is_better: bool = False
    per_row: Callable[[Labels, Predictions], NDArray[np.float64]] | None = None
    decides: bool = True

    def loss(self, value: float) -> float:
        """The metric's value turned so that less is better."""
        return -value if self.higher_is_better else value


@dataclass(frozen=True)
class Picture:
    """A drawing of how good a model is, and over how many axes beside each other it goes."""

    draw: Draw
    columns: int = 1


class Task(ABC):
    """One kind of question. What an instance holds is what the problem file declares of the label.

    Args:
        classes: Of a multiclass label, in the order of their codes.
        scale: On which a regression's model is fitted: `log1p`, or None for the label's own.

    Raises:
        HindcastError: The task takes no such declaration.

    Attributes:
        name: As the problem file says it.
        metrics: By name, in the order in which they are shown.
        ordering: The metric that says how well predictions order labels (0.5 by chance, 1 all), the best of a label's
            events: what a limit on leaks is about.
        area: The same, the mean over the events: what a leak is worth is a difference of it.
        families: Per family of models that the task knows, the pipeline's last step from scikit-learn's parameters.
        summary_metrics: Those of a narrow table.
        baseline_names: What the label's history is called: of all rows, and per group.
        label_types: SQL types, less their parameters, that a label's column may have.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]
    ordering: ClassVar[str]
    area: ClassVar[str]
    families: ClassVar[Mapping[str, Callable[..., Any]]]
    summary_metrics: ClassVar[tuple[str, ...]]
    baseline_names: ClassVar[tuple[str, str]]
    label_types: ClassVar[tuple[str, ...]]

    def __init__(self, classes: tuple[str, ...] = (), scale: str | None = None) -> None:
        if classes:
            raise HindcastError(f"label.classes: the task {self.name} takes none.")
        if scale is not None:
            raise HindcastError(f"label.scale: the task {self.name} takes none.")
        self.classes: tuple[str, ...] = classes
        self.scale: str | None = scale

    # What a prediction is made of

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Names of a prediction's numbers, which are columns of tables too."""

    @property
    @abstractmethod
    def scores(self) -> tuple[str, ...]:
        """Names of the raw scores that an explanation adds up to: one, or one per class."""

    score_unit: str
    """Of the raw scores, for people."""

    quantity: ClassVar[tuple[str, str]] = ("probability", "probabilities")
    """What is predicted, for people: one, and several."""

    # The problem file and the labels

    def metric(self, name: str) -> Metric:
        """Raises:
        HindcastError: The task has no such metric.
        """
        if name not in self.metrics:
            raise HindcastError(
                f"There is no metric {name!r} for the task {self.name}; there are {', '.join(self.metrics)}."
            )
        return self.metrics[name]

    def family(self, name: str) -> Callable[..., Any]:
        """Raises:
        HindcastError: The task has no such family of models.
        """
        if name not in self.families:
            raise HindcastError(
                f"There is no model {name!r} for the task {self.name}; there are {', '.join(self.families)}."
            )
        return self.families[name]

    @abstractmethod
    def check_metrics(self, metrics: "Metrics") -> None:
        """Raises:
        HindcastError: The problem file's `metrics` declare what the task doesn't know.
        """

    @property
    @abstractmethod
    def allowed(self) -> Sequence[Any] | None:
        """The values that a label may have in the tables; None for any finite number."""

    @abstractmethod
    def labels(self, values: Sequence[Any] | NDArray[Any]) -> Labels:
        """Labels as the tables hold them, none of them null, as an array of shape (n,)."""

    @abstractmethod
    def check_variety(self, labels: Labels, where: str, learned_from: bool = False) -> None:
        """Raises:
        HindcastError: Nothing can be told apart by these labels, or (`learned_from`) a class has none of them. The
            message begins with `where`.
        """

    @abstractmethod
    def means(self, labels: Labels) -> NDArray[np.float64]:
        """Per row the numbers whose mean over a group is the group's history, shape (n, m): the label, or one per
        class."""

    @abstractmethod
    def from_means(self, means: NDArray[np.float64]) -> Predictions:
        """A group's history, shape (n, m), as a prediction: the baseline that needs no model."""

    @abstractmethod
    def describe(self, means: NDArray[np.float64]) -> str:
        """The mean of `means` over all rows, shape (m,), in words, for a model card."""

    @abstractmethod
    def events(self, labels: Labels) -> dict[str, NDArray[np.bool_]]:
        """Questions with yes or no that a leaking column would answer, each of shape (n,), by name."""

    @abstractmethod
    def event_scores(self, said: Predictions) -> list[NDArray[np.float64]]:
        """Per event, in the order of `events`, numbers (n,) that are the higher, the likelier predictions say it is."""

    # Models

    @abstractmethod
    def target(self, labels: Labels) -> NDArray[Any]:
        """What a model is fitted to, shape (n,)."""

    def second_model(self, estimator: Any, matrix: NDArray[np.float32], labels: Labels, seed: int) -> Any:
        """What is fitted beside a pipeline, on rows (n, features) that it was fitted on; None where nothing is."""
        return None

    @abstractmethod
    def predict(self, estimator: Any, matrix: NDArray[np.float32], second: Any = None) -> Predictions:
        """What a fitted scikit-learn pipeline and its second model say of rows (n, features), without a calibration."""

    graph_options: ClassVar[Mapping[str, Any]]
    """Of skl2onnx, for the pipeline."""

    @abstractmethod
    def read_graph(self, raw: NDArray[Any]) -> Predictions:
        """What the exported graph's last output, shape (n, k), says: as `predict`."""

    @abstractmethod
    def raw_scores(self, said: Predictions) -> NDArray[np.float64]:
        """The raw scores behind predictions, shape (n, scores), as far as they can be told from them: what an
        explanation is held against."""

    @abstractmethod
    def score_differences(self, scores: NDArray[np.float64], said: Predictions) -> NDArray[np.float64]:
        """By how much raw scores (n, scores) miss those behind float32 predictions (n, outputs), as far as such
        predictions can tell, shape (n, scores): in log-odds; of values, in units of the rows' largest, or of 1."""

    @abstractmethod
    def parity_scale(self, labels: Labels) -> float:
        """By how much a prediction may differ without meaning anything, in units of `PARITY_LIMIT`: 1 for
        probabilities, the largest label for values."""

    def distance(self, one: Predictions, other: Predictions, scale: float) -> NDArray[np.float64]:
        """How far predictions of one model for the same rows lie apart, shape (n, outputs): about 1e-7 comes from
        float32 alone, as sums over one row and over many are rounded differently.

        Args:
            one: Shape (n, outputs).
            other: Of the same shape.
            scale: `parity_scale` of labels.
        """
        return np.abs(one - other)

    # Deciding

    @abstractmethod
    def calibrate(self, metrics: "Metrics", labels: Labels, said: Predictions) -> dict[str, Any]:
        """What is chosen on the validation window: labels (n,) and predictions (n, outputs)."""

    def complete(self, said: Predictions, calibration: Calibration) -> Predictions:
        """Predictions with what a calibration adds to them, same shape."""
        return said

    @abstractmethod
    def decide(self, said: Predictions, calibration: Calibration) -> NDArray[np.int64] | None:
        """The code of each row's decision, shape (n,); None where the task decides nothing."""

    @abstractmethod
    def decision(self, code: int) -> int | str:
        """A decision as an answer gives it."""

    @abstractmethod
    def answer(self, said: NDArray[np.float64], calibration: Calibration) -> dict[str, Any]:
        """The fields of an answer that only the task knows, from one row's prediction, shape (outputs,)."""

    @abstractmethod
    def answer_form(self) -> dict[str, tuple[Any, str]]:
        """Per field of `answer` its type, as pydantic takes it, and what it means."""

    @abstractmethod
    def calibration_form(self) -> dict[str, tuple[Any, str]]:
        """Per key of a calibration the same."""

    # Measuring

    def measure(self, labels: Labels, said: Predictions) -> dict[str, Any]:
        """`rows`, every metric, and the means of labels and predictions; None for what isn't defined on the rows."""
        numbers = {name: self._number(metric, labels, said) for name, metric in self.metrics.items()}
        return {"rows": len(labels)} | numbers | self.measure_means(labels, said)

    @staticmethod
    def _number(metric: Metric, labels: Labels, said: Predictions) -> float | None:
        value = metric.compute(labels, said) if len(labels) else float("nan")
        return None if np.isnan(value) else round(float(value), DIGITS)

    @abstractmethod
    def measure_means(self, labels: Labels, said: Predictions) -> dict[str, Any]:
        """Means of labels and of predictions, by names; None where there are no rows."""

    @abstractmethod
    def details(self, labels: Labels, said: Predictions, calibration: Calibration) -> dict[str, Any]:
        """What people read off besides metrics: counts of decisions against labels, or how residuals lie."""

    @abstractmethod
    def explain_details(self, details: Mapping[str, Any]) -> str:
        """The most telling of `details`, in a sentence."""

    @abstractmethod
    def gain(self, model: Mapping[str, Any], historic: Mapping[str, Any], primary: str) -> tuple[float | None, str]:
        """By how much a model is better than the historic baseline, both as `measure` gives them; and in which unit
        (see `baseline.min_gain`). None where it isn't defined."""

    @abstractmethod
    def pictures(
        self, labels: Labels, said: Mapping[str, Predictions], chosen: str, calibration: Calibration
    ) -> dict[str, Picture]:
        """Pictures of a window by title, most telling first.

        Args:
            labels: Shape (n,).
            said: Predictions per candidate.
            chosen: Name of the chosen one.
            calibration: The chosen one's.
        """

    # Monitoring

    def change(self, before: Predictions, after: Predictions) -> NDArray[np.float64]:
        """By how much predictions moved, with the sign: of the output that moved most, shape (n,)."""
        moved = after - before
        return np.take_along_axis(moved, np.abs(moved).argmax(axis=1)[:, None], axis=1)[:, 0]

    def promises(self, labels: Labels, said: Predictions, calibration: Calibration) -> dict[str, tuple[float, float]]:
        """What predictions promise of labels (n,), n > 0, and must neither miss nor exceed: by name what the labels
        came to, and what was promised; none where nothing is."""
        return {}

    @abstractmethod
    def estimate(self, said: Predictions, calibration: Calibration) -> dict[str, float]:
        """Metrics that predictions promise without a label, by name, from rows (n, outputs), n > 0; none where they
        promise nothing."""

    @abstractmethod
    def evidently(self, calibration: Calibration) -> tuple[dict[str, Any], Any, dict[str, str]]:
        """For Evidently's page: arguments of its `DataDefinition` over `evidently_columns`, its preset, and which of
        our metrics its own are, by the last part of their type."""

    def evidently_columns(self, labels: Labels, said: Predictions) -> dict[str, NDArray[Any]]:
        """Labels (n,) and predictions (n, outputs) as the columns that Evidently's page takes, each of shape (n,)."""
        return {"label": labels} | dict(zip(self.outputs, said.T, strict=True))
