"""Evaluates the fitted candidates on the validation and test windows, per slice and beside baselines; chooses one.

Whether it is good enough to be used is decided in `promotion/gate.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.evaluation.metrics import (
    DIGITS,
    METRICS,
    Labels,
    Probabilities,
    best_f1_threshold,
    calibration_bins,
    confusion,
    measure,
    metric_named,
)
from hindcast.package.reference import HistoricRates
from hindcast.pages import markdown_table
from hindcast.problem import Problem
from hindcast.training.search import Candidates, Fitted, probabilities
from hindcast.training.training_data import Rows, split_rows

WINDOWS = ("validation", "test")


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        report: All numbers, the form of `evaluation.json`: `chosen`, `candidates` (each with `validation`, `test`,
            `search`), `baselines`, `slices`, `rows`. Two runs on the same data give the same text.
        labels: Per window, shape (n,), in the order of prediction time, then of the key.
        said: Probabilities per candidate and window.
        test: The test window's rows.
    """

    report: dict[str, Any]
    labels: dict[str, Labels]
    said: dict[str, dict[str, Probabilities]]
    test: Rows

    @property
    def chosen(self) -> str:
        """Name of the candidate that is best on validation."""
        return str(self.report["chosen"])

    @property
    def chosen_report(self) -> dict[str, Any]:
        """Its entry in the report."""
        return next(each for each in self.report["candidates"] if each["chosen"])

    @property
    def baseline_entries(self) -> list[dict[str, Any]]:
        """The baselines in the form of candidates."""
        return [{"name": name} | values for name, values in self.report["baselines"].items()]


def evaluate(problem: Problem, frame: pl.DataFrame, candidates: Candidates) -> Evaluation:
    """Measures every candidate and chooses the best by the primary metric on validation.

    Args:
        problem: Metrics, slices, baseline.
        frame: The training set that the candidates were fitted on.
        candidates: As `train` made them.
    """
    primary = metric_named(problem.metrics.primary)
    rows = {window: split_rows(problem, frame, candidates.features, window) for window in WINDOWS}
    labels = {window: rows[window].labels for window in WINDOWS}
    said = {
        fitted.name: {window: probabilities(fitted.estimator, rows[window].matrix) for window in WINDOWS}
        for fitted in candidates.fitted
    }
    trained = frame.filter(pl.col("split") == "train")
    entries = [_entry(problem, fitted, labels, said[fitted.name]) for fitted in candidates.fitted]
    chosen = min(entries, key=lambda entry: primary.loss(entry["validation"][problem.metrics.primary]))["name"]
    for entry in entries:
        entry["chosen"] = entry["name"] == chosen
    test = frame.filter(pl.col("split") == "test").sort(problem.prediction_time.column, problem.entity.key)
    report = {
        "problem": problem.name,
        "question": problem.question,
        "primary": problem.metrics.primary,
        "training_hash": candidates.training_hash,
        "features": [feature.name for feature in candidates.features],
        "rows": {"train": trained.height} | {window: len(labels[window]) for window in WINDOWS},
        "label_rate": round(label_rate(problem, trained), DIGITS),
        "chosen": chosen,
        "candidates": entries,
        "baselines": baselines(problem, frame),
        "slices": slices(problem, test, said[chosen]["test"]),
        "calibration": [
            {"rows": n, "mean_probability": round(p, DIGITS), "label_rate": round(y, DIGITS)}
            for n, p, y in calibration_bins(labels["test"], said[chosen]["test"])
        ],
    }
    return Evaluation(report, labels, said, rows["test"])


def _entry(
    problem: Problem, fitted: Fitted, labels: dict[str, Labels], said: dict[str, Probabilities]
) -> dict[str, Any]:
    threshold = choose_threshold(problem.metrics.threshold, labels["validation"], said["validation"])
    return {
        "name": fitted.name,
        "model": fitted.model,
        "parameters": fitted.parameters,
        "search": [
            {"parameters": draw.parameters, "folds": list(draw.scores), "score": round(draw.score, DIGITS)}
            for draw in fitted.draws
        ],
        "threshold": threshold,
    } | {
        window: measure(labels[window], said[window])
        | {"confusion": confusion(labels[window], said[window], threshold)}
        for window in WINDOWS
    }


def choose_threshold(rule: str | float, labels: Labels, said: Probabilities) -> float:
    """Where a probability becomes a decision.

    Args:
        rule: `best_f1`; `base_rate` (as many decisions as there are 1s); or a probability.
        labels: Of the validation window, shape (n,).
        said: Probabilities, shape (n,).
    """
    if rule == "best_f1":
        return best_f1_threshold(labels, said)
    if rule == "base_rate":
        return round(float(np.quantile(said, 1 - labels.mean())), DIGITS)
    return float(rule)


def label_rate(problem: Problem, frame: pl.DataFrame) -> float:
    """Share of 1 among the labels."""
    return float(frame[problem.label.column].cast(pl.Float64).to_numpy().mean())


def baselines(problem: Problem, frame: pl.DataFrame) -> dict[str, Any]:
    """What needs no model: the training window's label rate for everybody, and per group.

    Returns:
        `base_rate` and `historic_rate`, each with the metrics of `validation` and `test`.
    """
    trained = frame.filter(pl.col("split") == "train")
    found: dict[str, Any] = {"base_rate": {}, "historic_rate": {"columns": list(problem.baseline.columns)}}
    for window in WINDOWS:
        part = frame.filter(pl.col("split") == window)
        labels = part[problem.label.column].cast(pl.Int64).to_numpy()
        found["base_rate"][window] = measure(labels, np.full(part.height, label_rate(problem, trained)))
        found["historic_rate"][window] = measure(labels, historic_rate(problem, trained, part))
    return found


def historic_rate(problem: Problem, trained: pl.DataFrame, frame: pl.DataFrame) -> Probabilities:
    """Label rate of each row's group (`baseline.columns`) in the training window, as `HistoricRates` has it.

    Args:
        problem: Names the columns.
        trained: The training window's rows, with labels.
        frame: Rows to give a rate, shape (n,).

    Raises:
        HindcastError: A baseline column isn't in the tables.
    """
    return HistoricRates.of(problem, trained).rate(frame)


def slices(problem: Problem, frame: pl.DataFrame, said: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Metrics per value of each slice column, of values with enough rows.

    Args:
        problem: `slices`.
        frame: Rows with labels and slice columns, in the order of `said`.
        said: Probabilities, shape (n,).

    Raises:
        HindcastError: A slice column isn't in the table.
    """
    labels = frame[problem.label.column].cast(pl.Int64).to_numpy()
    found = []
    for column in problem.slices.columns:
        if column not in frame.columns:
            raise HindcastError(f"slices.columns: the training set has no column {column}.")
        values = frame[column].cast(pl.String).fill_null("missing")
        for value in values.unique().sort():
            rows = (values == value).to_numpy()
            if rows.sum() >= problem.slices.min_rows:
                found.append({"column": column, "value": value} | measure(labels[rows], said[rows]))
    return found


def shown_metrics(entries: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of candidates' metrics."""
    rows = [
        {"": entry["name"] + (" (chosen)" if entry.get("chosen") else ""), "on": window}
        | {name: entry[window][name] for name in METRICS}
        for entry in entries
        for window in WINDOWS
    ]
    return markdown_table(rows, ".4f")


def shown_slices(found: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of slices' metrics."""
    names = ("column", "value", "rows", "label_rate", "roc_auc", "log_loss", "calibration_error")
    return markdown_table(({name: each[name] for name in names} for each in found), ".3f")
