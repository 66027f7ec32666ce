"""The monitoring report: drift and realised performance of the champion in the last window, and whether they alarm.

What is compared is read in `periods`; the statistics are in `drift`; the report that people read is
`evidently_report`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hindcast.artefacts import write_json
from hindcast.fingerprint import fingerprint
from hindcast.monitoring import drift
from hindcast.monitoring.periods import Periods
from hindcast.pages import markdown_table
from hindcast.problem import Problem


@dataclass(frozen=True)
class MonitoringReport:
    """The verdict on one window. Its fields are the keys of `monitoring.json`.

    Attributes:
        model_version: The champion that was judged.
        window: `from` and `to`: first and last prediction time of its requests; None where there are none.
        requests: The champion's requests in the window.
        unreadable: The champion's requests that are left out, as their record can't be read.
        labeled: Those whose label is known.
        matured: Those that performance is judged on: old enough for nearly every label to have come.
        drift: `columns` (each with distance, threshold, drifted; farthest beyond its threshold first), `share` of
            drifted ones, `alarm`.
        prediction_drift: `distance`, `threshold`, `drifted` of the predictions' `output` that lies farthest beyond its
            threshold. Told, and no alarm by itself: predictions move with what they are made from, and do so while the
            model is as good as ever.
        performance: `metric`, `realised`, `expected` and `deviation` (mean and SD of the reference's blocks), `z`
            (above 0 is worse), `alarm`; `others` (realised and expected of more metrics); `estimated` (what the
            predictions promise without a label: on the rows of `realised`) and `estimated_all` (on all requests), None
            where they promise nothing; `immature` and `unlabeled` (requests left out: too young; old enough, but
            without label); where the task has any, `promises` that are to be kept both ways (`realised`, `promised`,
            `deviation` of the reference's blocks, `z` from what was promised, `alarm`).
        status: `alarm`, `ok` (drift and performance were both judged), or `not enough data`.
        causes: What raised the alarm: `drift`, `performance`, and promises by their names.
        cause_id: Equal for equal causes, window and model: what asks for a retraining asks once per id.
        summary: One sentence.
    """

    model_version: str
    window: dict[str, str] | None
    requests: int
    unreadable: int
    labeled: int
    matured: int
    drift: dict[str, Any]
    prediction_drift: dict[str, Any]
    performance: dict[str, Any]
    status: str
    causes: list[str]
    cause_id: str
    summary: str


def judge(problem: Problem, periods: Periods) -> MonitoringReport:
    """Decides whether the window differs from the reference more than the reference's blocks do among themselves.

    With too few requests nothing is judged; with too few matured labels performance isn't. What isn't judged never
    raises an alarm.
    """
    limits = problem.monitoring
    served = periods.in_window(problem)
    labeled = served["label"].count()
    enough = len(served) >= limits.min_requests
    drifted, predictions = _drift(problem, periods, served) if enough else (_NO_DRIFT, _NOT_COMPARED)
    performance, matured = _performance(problem, periods)
    if len(served):
        performance["estimated_all"] = _estimate(periods, served)
    parts = {"drift": drifted, "performance": performance} | performance.get("promises", {})
    causes = [name for name, part in parts.items() if part["alarm"]]
    judged = enough and matured >= limits.min_labeled
    status = "alarm" if causes else "ok" if judged else "not enough data"
    span = (
        {"from": _utc(served["prediction_time"].min()), "to": _utc(served["prediction_time"].max())}
        if len(served)
        else None
    )
    report = MonitoringReport(
        model_version=periods.model_version,
        window=span,
        requests=len(served),
        unreadable=periods.unreadable,
        labeled=labeled,
        matured=matured,
        drift=drifted,
        prediction_drift=predictions,
        performance=performance,
        status=status,
        causes=causes,
        cause_id=fingerprint(values=[periods.model_version, json.dumps(span), *causes]),
        summary="",
    )
    return replace(report, summary=_sentence(problem, report, periods))


_NO_DRIFT: dict[str, Any] = {"columns": [], "share": None, "alarm": False}
_NOT_COMPARED: dict[str, Any] = {"output": None, "distance": None, "threshold": None, "drifted": False}


def _drift(problem: Problem, periods: Periods, served: pl.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    limits = problem.monitoring
    times = [frame["prediction_time"].to_numpy() for frame in (periods.reference, served)]
    parts = drift.blocks(times[0], times[1], limits.blocks, problem.budget.seed)

    def distance(name: str, kind: str) -> drift.Distance:
        if kind == "numeric":
            both = [frame[name].cast(pl.Float64).to_numpy() for frame in (periods.reference, served)]
            numbers = drift.bin_numbers(both[0], both[1])
        else:
            numbers = drift.bin_levels(periods.reference[name].to_list(), served[name].to_list())
        return drift.distance(name, *numbers, parts, limits.drift_quantile)

    columns = [distance(name, kind) for name, kind in periods.features.items()]
    share = sum(column.drifted for column in columns) / len(columns)
    columns.sort(key=lambda column: (column.threshold - column.distance, column.column))
    outputs = [distance(name, "numeric") for name in periods.task.outputs]
    predictions = asdict(max(outputs, key=lambda output: output.distance - output.threshold))
    shown = {
        "columns": [asdict(column) for column in columns],
        "share": share,
        "alarm": share > limits.max_drifted_share,
    }
    return shown, {"output": predictions.pop("column")} | predictions


def _estimate(periods: Periods, rows: pl.DataFrame) -> dict[str, float] | None:
    return periods.task.estimate(periods.predictions(rows), periods.calibration) or None


def _performance(problem: Problem, periods: Periods) -> tuple[dict[str, Any], int]:
    """Realised against expected performance, and the number of matured rows that it rests on."""
    limits, task, name = problem.monitoring, periods.task, problem.metrics.primary
    matured, immature, unlabeled = periods.matured(problem)
    primary = task.metric(name)
    found: dict[str, Any] = {
        "metric": name,
        "realised": None,
        "expected": None,
        "deviation": None,
        "z": None,
        "alarm": False,
        "others": {},
        "estimated": None,
        "estimated_all": None,
        "immature": immature,
        "unlabeled": unlabeled,
    }
    if len(matured) < limits.min_labeled:
        return found, len(matured)
    times = [frame["prediction_time"].to_numpy() for frame in (periods.reference, matured)]
    parts = drift.blocks(times[0], times[1], limits.blocks, problem.budget.seed)
    truth, said = periods.labels(periods.reference), periods.predictions(periods.reference)
    labels, predictions = periods.labels(matured), periods.predictions(matured)
    realised = task.measure(labels, predictions)
    blocks = [task.measure(truth[rows], said[rows]) for rows in parts]

    def inside(name: str) -> list[float]:
        return [block[name] for block in blocks if block[name] is not None]

    if realised[name] is not None and len(inside(name)) > 1:
        z = drift.standard_score(primary.loss(realised[name]), [primary.loss(value) for value in inside(name)])
        found |= {
            "realised": realised[name],
            "expected": float(np.mean(inside(name))),
            "deviation": float(np.std(inside(name), ddof=1)),
            "z": z,
            "alarm": z > limits.performance_z,
        }
    found["estimated"] = _estimate(periods, matured)
    means = [key for key in realised if key != "rows" and key not in task.metrics]
    found["others"] = {
        other: {"realised": realised[other], "expected": float(np.mean(inside(other))) if inside(other) else None}
        for other in (*means, *task.metrics)
        if other != name
    }
    promised = [task.promises(truth[rows], said[rows], periods.calibration) for rows in parts]
    kept = task.promises(labels, predictions, periods.calibration)
    if kept and len(parts) > 1:
        found["promises"] = {
            promise: _judge_promise(*numbers, [block[promise][0] for block in promised], limits.performance_z)
            for promise, numbers in kept.items()
        }
    return found, len(matured)


def _judge_promise(realised: float, promised: float, inside: Sequence[float], limit: float) -> dict[str, Any]:
    """A promise against the blocks' variation: what was promised is the centre, not what the reference came to."""
    z = drift.standard_score(realised, inside, promised)
    return {
        "realised": realised,
        "promised": promised,
        "deviation": float(np.std(inside, ddof=1)),
        "z": z,
        "alarm": abs(z) > limit,
    }


def _sentence(problem: Problem, report: MonitoringReport, periods: Periods) -> str:
    limits, shown, measured = problem.monitoring, report.drift, report.performance
    more = [f"{periods.other_versions:,} more were answered by other versions"] if periods.other_versions else []
    more += [f"{periods.unreadable:,} more can't be read"] if periods.unreadable else []
    ignored = f" ({', '.join(more)})" if more else ""
    if shown["share"] is None:
        drifting = f"drift isn't judged on {report.requests:,} requests (fewer than {limits.min_requests:,})"
    else:
        moved = sum(column["drifted"] for column in shown["columns"])
        drifting = (
            f"{moved} of {len(shown['columns'])} features drifted ({shown['share']:.0%}, limit "
            f"{limits.max_drifted_share:.0%}), predictions {'did' if report.prediction_drift['drifted'] else 'did not'}"
        )
        if report.prediction_drift["drifted"] and len(periods.task.outputs) > 1:
            drifting += f" ({report.prediction_drift['output']})"
    if measured["z"] is None:
        performing = (
            f"performance isn't judged on {report.matured:,} matured labels (fewer than {limits.min_labeled:,})"
            if report.matured < limits.min_labeled
            else f"performance isn't judged, as {measured['metric']} isn't defined on these labels"
        )
    else:
        performing = (
            f"{measured['metric']} {measured['realised']:.3f} on {report.matured:,} matured labels where "
            f"{measured['expected']:.3f} ± {measured['deviation']:.3f} was expected (z {measured['z']:+.1f}, limit "
            f"{limits.performance_z:+.1f})"
        )
    for name, promise in measured.get("promises", {}).items():
        performing += (
            f"; {name} {promise['realised']:.3f} where {promise['promised']:.3f} was promised (z {promise['z']:+.1f}, "
            f"limit ±{limits.performance_z:.1f})"
        )
    head = {"alarm": f"ALARM ({', '.join(report.causes)})", "ok": "OK"}.get(report.status, "Not enough data")
    return f"{head}: of {report.requests:,} requests{ignored}, {drifting}; {performing}."


def write(report: MonitoringReport, path: Path) -> str:
    """Writes the report as JSON, and returns the text; what isn't a finite number becomes null."""
    return write_json(path, _finite(asdict(report)))


def performance_table(report: MonitoringReport) -> str:
    """Realised, expected and estimated performance as a Markdown table."""
    found = report.performance
    rows = [
        {
            "": name,
            "realised": row["realised"],
            "expected (reference)": row["expected"],
            "promised without labels": (found["estimated"] or {}).get(name),
            "the same, all requests": (found["estimated_all"] or {}).get(name),
        }
        for name, row in ({found["metric"]: found} | found["others"]).items()
    ]
    return markdown_table([_finite(row) for row in rows], ".4f")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _utc(instant: Any) -> str:
    return f"{instant.isoformat()}Z"
