"""Writes Evidently's HTML page on drift and performance, with Hindcast's own distances and limits.

Nothing is decided here. Evidently draws; what has drifted is what `drift` said, on all rows. The figures
of performance are Evidently's own, a second opinion on the task's metrics.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.monitoring.periods import Periods
from hindcast.monitoring.report import MonitoringReport
from hindcast.problem import Problem

_METHOD = "hindcast"


@dataclass(frozen=True)
class Page:
    """What was written.

    Attributes:
        path: The HTML file; it holds all that it shows and asks no network.
        reference_rows: Drawn from the reference.
        current_rows: Drawn from the window's requests.
        drifted: How many of the columns Evidently shows as drifted.
        realised: Performance by Evidently on the matured labels; empty where there are too few.
        left_out: What it can't draw (columns, or performance), and why.
    """

    path: Path
    reference_rows: int
    current_rows: int
    drifted: int
    realised: dict[str, float]
    left_out: dict[str, str]


def write_page(problem: Problem, periods: Periods, report: MonitoringReport, path: Path) -> Page | None:
    """Draws the page; None, and no file, where there are too few requests to compare.

    Args:
        problem: Says how many rows are drawn (`monitoring.reference_rows`, seeded by `budget.seed`).
        periods: What the verdict was given on.
        report: The verdict.
        path: Of the HTML file; replaced as a whole.
    """
    distances = {column["column"]: column for column in report.drift["columns"]}
    if not distances:
        path.unlink(missing_ok=True)
        return None
    distances[report.prediction_drift["output"]] = report.prediction_drift
    reference = _sample(periods.reference, problem)
    current = _sample(periods.in_window(problem), problem)
    left_out = _not_drawable(list(distances), reference, current)
    columns = [name for name in distances if name not in left_out]
    numeric = [name for name in columns if periods.features.get(name, "numeric") == "numeric"]
    drifts = _drift_snapshot(columns, numeric, distances, reference, current, problem.monitoring.max_drifted_share)
    snapshots = [("Drift of features and predictions", drifts)]
    realised: dict[str, float] = {}
    if report.performance["z"] is not None:
        matured = _sample(periods.matured(problem)[0], problem)
        if fault := _not_measurable(periods, matured, reference):
            left_out["performance"] = fault
        else:
            quality, realised = _performance_snapshot(periods, matured, reference)
            snapshots.append(("Performance realised on matured labels", quality))
    write_atomically(path, _html(report, left_out, snapshots))
    drifted = int(_values(drifts)["DriftedColumnsCount"]["count"])
    return Page(path, len(reference), len(current), drifted, realised, left_out)


def _sample(rows: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    most = problem.monitoring.reference_rows
    if len(rows) <= most:
        return rows
    return rows.with_row_index("row").sample(most, seed=problem.budget.seed).sort("row").drop("row")


def _not_drawable(columns: Sequence[str], reference: pl.DataFrame, current: pl.DataFrame) -> dict[str, str]:
    """Evidently fails as a whole on a column without a single value in either period."""
    found = {}
    for name in columns:
        for period, rows in (("reference", reference), ("current period", current)):
            if rows[name].count() == 0:
                found[name] = f"no value in the {period}"
    return found


def _drift_snapshot(
    columns: list[str],
    numeric: list[str],
    distances: dict[str, dict[str, Any]],
    reference: pl.DataFrame,
    current: pl.DataFrame,
    max_share: float,
) -> Any:
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType
    from evidently.presets import DataDriftPreset

    def calibrated(_reference: Any, current_column: Any, _kind: Any, _threshold: float) -> tuple[float, bool]:
        found = distances[current_column.name]
        return found["distance"], found["drifted"]

    # Evidently's own test would bin otherwise and see a sample only: two truths on one page.
    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    register_stattest(StatTest(_METHOD, "Jensen-Shannon distance, limit by blocks", kinds), calibrated)
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[name for name in columns if name not in numeric]
    )
    report = Report(
        [
            DataDriftPreset(
                columns=columns,
                method=_METHOD,
                per_column_threshold={name: distances[name]["threshold"] for name in columns},
                drift_share=max_share,
            )
        ]
    )
    both = [Dataset.from_pandas(rows.select(columns).to_pandas(), definition) for rows in (current, reference)]
    with np.errstate(invalid="ignore", divide="ignore"):  # it correlates constant columns
        return report.run(*both)


def _not_measurable(periods: Periods, matured: pl.DataFrame, reference: pl.DataFrame) -> str | None:
    """Evidently fails as a whole on labels that are all equal, or lack a class, in either period."""
    for period, rows in (("current period", matured), ("reference", reference)):
        try:
            periods.task.check_variety(periods.labels(rows), period, learned_from=True)
        except HindcastError:
            return f"the labels that are drawn of the {period} are all equal, or lack a class"
    return None


def _performance_snapshot(
    periods: Periods, matured: pl.DataFrame, reference: pl.DataFrame
) -> tuple[Any, dict[str, float]]:
    """The snapshot, and its figures by our names for them."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report

    definition, preset, names = periods.task.evidently(periods.calibration)
    both = []
    for rows in (matured, reference):
        columns = periods.task.evidently_columns(periods.labels(rows), periods.predictions(rows))
        both.append(Dataset.from_pandas(pd.DataFrame(columns), DataDefinition(**definition)))
    snapshot = Report([preset]).run(*both)
    values = _values(snapshot)
    return snapshot, {ours: _number(values[theirs]) for theirs, ours in names.items() if theirs in values}


def _number(value: Any) -> float:
    return float(value["mean"] if isinstance(value, dict) else value)  # a mean error comes with its deviation


def _values(snapshot: Any) -> dict[str, Any]:
    """A snapshot's results by the last part of their type; of a type that comes once per column, the last."""
    metrics = json.loads(snapshot.json())["metrics"]
    return {metric["config"]["type"].rsplit(":", 1)[-1]: metric["value"] for metric in metrics}


def _html(report: MonitoringReport, left_out: dict[str, str], snapshots: Sequence[tuple[str, Any]]) -> str:
    """One page of several snapshots, with the verdict on top."""
    from evidently.core.report import render_widgets
    from evidently.legacy.renderers.html_widgets import CounterData, counter, group_widget

    verdict = CounterData(label=report.summary, value=report.status)
    widgets = [counter(title=f"Model {report.model_version}", counters=[verdict])]
    if left_out:
        why = "; ".join(f"{name} ({reason})" for name, reason in sorted(left_out.items()))
        widgets.append(counter(title="", counters=[CounterData(label=f"not drawn: {why}", value=str(len(left_out)))]))
    widgets += [
        group_widget(title=title, widgets=snapshot.to_snapshot_model().widgets) for title, snapshot in snapshots
    ]
    return str(render_widgets(widgets, as_iframe=False))
