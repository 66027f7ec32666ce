"""Evaluates the fitted candidates on the validation and test windows, per slice and beside baselines; chooses one.

Whether it is good enough to be used is decided in `promotion/gate.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hindcast.errors import HindcastError
from hindcast.package.reference import History
from hindcast.pages import markdown_table
from hindcast.problem import Problem
from hindcast.tasks import problem_task
from hindcast.tasks.task import DIGITS, Labels, Predictions, Task
from hindcast.training.search import Candidates, Fitted
from hindcast.training.training_data import Rows, labels_of, split_rows

WINDOWS = ("validation", "test")


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        report: All numbers, the form of `evaluation.json`: `chosen`, `candidates` (each with `validation`, `test`,
            `search`, `calibration`), `baselines`, `slices`, `rows`. Two runs on the same data give the same text.
        labels: Per window, shape (n,), in the order of prediction time, then of the key.
        said: Predictions per candidate and window, shape (n, outputs).
        test: The test window's rows.
    """

    report: dict[str, Any]
    labels: dict[str, Labels]
    said: dict[str, dict[str, Predictions]]
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
    task = problem_task(problem)
    primary = task.metric(problem.metrics.primary)
    rows = {window: split_rows(problem, frame, candidates.features, window) for window in WINDOWS}
    labels = {window: rows[window].labels for window in WINDOWS}
    said: dict[str, dict[str, Predictions]] = {}
    entries = []
    for fitted in candidates.fitted:
        alone = {window: task.predict(fitted.estimator, rows[window].matrix, fitted.second) for window in WINDOWS}
        calibration = task.calibrate(problem.metrics, labels["validation"], alone["validation"])
        said[fitted.name] = {window: task.complete(each, calibration) for window, each in alone.items()}
        entries.append(_entry(task, fitted, labels, said[fitted.name], calibration))
    trained = frame.filter(pl.col("split") == "train")
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
        "history": [round(float(mean), DIGITS) for mean in task.means(labels_of(problem, trained)).mean(axis=0)],
        "chosen": chosen,
        "candidates": entries,
        "baselines": baselines(problem, frame),
        "slices": slices(problem, test, said[chosen]["test"]),
    }
    return Evaluation(report, labels, said, rows["test"])


def _entry(
    task: Task,
    fitted: Fitted,
    labels: dict[str, Labels],
    said: dict[str, Predictions],
    calibration: dict[str, Any],
) -> dict[str, Any]:
    return {
        "name": fitted.name,
        "model": fitted.model,
        "parameters": fitted.parameters,
        "search": [
            {"parameters": draw.parameters, "folds": list(draw.scores), "score": round(draw.score, DIGITS)}
            for draw in fitted.draws
        ],
        "calibration": calibration,
    } | {
        window: task.measure(labels[window], said[window])
        | {"details": task.details(labels[window], said[window], calibration)}
        for window in WINDOWS
    }


def baselines(problem: Problem, frame: pl.DataFrame) -> dict[str, Any]:
    """What needs no model: the training window's history (the label's rate, or mean) for everybody, and per group.

    Returns:
        By `Task.baseline_names`, each with the metrics of `validation` and `test`.

    Raises:
        HindcastError: A baseline column isn't in the table.
    """
    task, history = problem_task(problem), History.of(problem, frame.filter(pl.col("split") == "train"))
    overall, per_group = task.baseline_names
    found: dict[str, Any] = {overall: {}, per_group: {"columns": list(problem.baseline.columns)}}
    for window in WINDOWS:
        part = frame.filter(pl.col("split") == window)
        labels = labels_of(problem, part)
        found[overall][window] = task.measure(labels, task.from_means(history.overall_of(part.height)))
        found[per_group][window] = task.measure(labels, task.from_means(history.means(part)))
    return found


def slices(problem: Problem, frame: pl.DataFrame, said: Predictions) -> list[dict[str, Any]]:
    """Metrics per value of each slice column, of values with enough rows.

    Args:
        problem: `slices`.
        frame: Rows with labels and slice columns, in the order of `said`.
        said: Predictions, shape (n, outputs).

    Raises:
        HindcastError: A slice column isn't in the table.
    """
    task, labels = problem_task(problem), labels_of(problem, frame)
    found = []
    for column in problem.slices.columns:
        if column not in frame.columns:
            raise HindcastError(f"slices.columns: the training set has no column {column}.")
        values = frame[column].cast(pl.String).fill_null("missing")
        for value in values.unique().sort():
            rows = (values == value).to_numpy()
            if rows.sum() >= problem.slices.min_rows:
                found.append({"column": column, "value": value} | task.measure(labels[rows], said[rows]))
    return found


def shown_metrics(task: Task, entries: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of candidates' metrics."""
    rows = [
        {"": entry["name"] + (" (chosen)" if entry.get("chosen") else ""), "on": window}
        | {name: entry[window][name] for name in task.metrics}
        for entry in entries
        for window in WINDOWS
    ]
    return markdown_table(rows, ".4f")


def shown_slices(task: Task, found: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of slices' metrics."""
    names = ("column", "value", "rows", *task.summary_metrics)
    return markdown_table(({name: each[name] for name in names} for each in found), ".3f")
