"""What a new problem of each task begins with: metrics, loose bars and two families. Numbers a person then tunes."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from hindcast.errors import HindcastError
from hindcast.tasks.binary import Binary
from hindcast.tasks.multiclass import Multiclass
from hindcast.tasks.regression import Regression

_YES = ("yes", "y", "true", "t", "1", "ja", "oui", "si")
_MOST_CLASSES = 50


@dataclass(frozen=True)
class Starter:
    """Values for a new problem file.

    Attributes:
        primary: Metric.
        unit: Of the primary metric, for a comment; "" where it has none.
        bars: Per metric `min` or `max`: what a model that knows nothing but the label's distribution just reaches.
        tolerance: Of the primary metric.
        margin: Of the primary metric.
        linear: Family of the first candidate.
        linear_search: Its search space.
        boosting: Fixed parameters of the second candidate.
    """

    primary: str
    unit: str
    bars: dict[str, dict[str, float]]
    tolerance: float
    margin: float
    linear: str
    linear_search: dict[str, Any]
    boosting: dict[str, Any]


def guess_task(values: Sequence[Any]) -> str:
    """The task of a label by its different values."""
    numbers = all(isinstance(value, bool | int | float) for value in values)
    if len(values) == 2 and (not numbers or {float(value) for value in values} == {0.0, 1.0}):
        return Binary.name
    if numbers:
        return Regression.name
    if len(values) > _MOST_CLASSES:
        raise HindcastError(
            f"--label: it has {len(values)} different texts: too many for classes. Group them by SQL, or give --task."
        )
    return Multiclass.name


def typed_label(label: str, task: str, values: Sequence[Any]) -> tuple[str, tuple[str, ...], list[str]]:
    """A label as its task takes it.

    Args:
        label: SQL.
        task: Name of the task.
        values: The label's different values, the most frequent first.

    Returns:
        SQL of the task's type, the classes in order, and what was assumed.

    Raises:
        HindcastError: The values aren't of the task's kind.
    """
    if task == Regression.name:
        if isinstance(values[0], str):
            raise HindcastError(f"--label {label}: --task {task} needs numbers, and there is {values[0]!r}.")
        return f"CAST({label} AS DOUBLE)", (), []
    if task == Multiclass.name:
        if len(values) > _MOST_CLASSES:
            raise HindcastError(f"--label {label}: more than {_MOST_CLASSES} classes. Group them by SQL (CASE WHEN …).")
        return f"CAST({label} AS VARCHAR)", tuple(sorted(map(str, values))), []
    if len(values) != 2:
        raise HindcastError(f"--label {label}: a yes or no has two values, and there are {len(values)}. Write SQL.")
    if isinstance(values[0], str):
        yes = next((text for text in values if text.strip().lower() in _YES), values[1])
        quoted = yes.replace("'", "''")
        return f"CAST({label} = '{quoted}' AS INTEGER)", (), [f"--label: 1 is {yes!r}, 0 is every other value"]
    if {float(value) for value in values} != {0.0, 1.0}:
        raise HindcastError(f"--label {label}: a yes or no is 0 or 1, not {values[0]} and {values[1]}. Write SQL.")
    return f"CAST({label} AS INTEGER)", (), []


def starter(task: str, labels: Sequence[Any]) -> Starter:
    """What a problem begins with.

    Args:
        task: Its name.
        labels: Known labels; none where there is no telling yet, and then there are no bars.
    """
    if task == Regression.name:
        middle = median(labels) if labels else 0.0
        spread = mean(abs(value - middle) for value in labels) if labels else 0.0
        return Starter(
            primary="mae",
            unit="the label's unit",
            bars={"mae": {"max": _rounded(1.1 * spread)}} if labels else {},
            tolerance=_rounded(0.01 * spread),
            margin=_rounded(0.001 * spread),
            linear="ridge",
            linear_search={"alpha": {"low": 1.0, "high": 1000.0, "log": True}},
            boosting={"loss": "absolute_error", "max_iter": 100, "early_stopping": False},
        )
    shares = [count / len(labels) for count in Counter(labels).values()]
    entropy = -sum(share * math.log(share) for share in shares)
    return Starter(
        primary="log_loss",
        unit="",
        bars={"log_loss": {"max": _rounded(1.1 * entropy)}} if labels else {},
        tolerance=0.003,
        margin=0.0005,
        linear="logistic_regression",
        linear_search={"C": {"low": 0.001, "high": 1.0, "log": True}},
        boosting={"max_iter": 100, "early_stopping": False},
    )


def label_type(task: str) -> str:
    """The SQL type of a task's label."""
    return {Regression.name: "double", Multiclass.name: "varchar", Binary.name: "integer"}[task]


def classes_named(task: str, label: str) -> list[str]:
    """The classes that an SQL expression names; none where the task has no classes.

    Raises:
        HindcastError: It names fewer than two.
    """
    if task != Multiclass.name:
        return []
    found = sorted(set(re.findall(r"(?:then|else)\s+'([^']*)'", label, re.IGNORECASE)))
    if len(found) < 2:
        raise HindcastError(f"--label {label}: name the classes, as in CASE WHEN … THEN 'late' ELSE 'on time' END.")
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
