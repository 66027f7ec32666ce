"""The monitoring report: drift and realised performance of the champion in the last window, and whether they alarm.

What is compared is read in `periods`; the statistics are in `drift`; the report that people read is
`evidently_report`.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hindcast.artefacts import write_json
from hindcast.evaluation.metrics import METRICS, measure, metric_named
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
        prediction_drift: `distance`, `threshold`, `drifted` of the probability. Told, and no alarm by itself:
            predictions move with what they are made from, and do so while the model is as good as ever.
        performance: `metric`, `realised`, `expected` and `deviation` (mean and SD of the reference's blocks), `z`
            (above 0 is worse), `alarm`; `others` (realised and expected of more metrics); `estimated` (what the
            probabilities promise without a label: on the rows of `realised`) and `estimated_all` (on all requests);
            `immature` and `unlabeled` (requests left out: too young; old enough, but without label).
        status: `alarm`, `ok` (drift and performance were both judged), or `not enough data`.
        causes: What raised the alarm: `drift`, `performance`.
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
        performance["estimated_all"] = drift.estimated_performance(served["probability"].to_numpy(), periods.threshold)
    causes = [name for name, part in (("drift", drifted), ("performance", performance)) if part["alarm"]]
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
_NOT_COMPARED: dict[str, Any] = {"distance": None, "threshold": None, "drifted": False}


def _drift(problem: Problem, periods: Periods, served: pl.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    limits = problem.monitoring
    times = [frame["prediction_time"].to_numpy() for frame in (periods.reference, served)]
    parts = drift.blocks(times[0], times[1], limits.blocks, problem.budget.seed)
    columns = []
    for name, kind in (periods.features | {"probability": "numeric"}).items():
        if kind == "numeric":
            both = [frame[name].cast(pl.Float64).to_numpy() for frame in (periods.reference, served)]
            numbers = drift.bin_numbers(both[0], both[1])
        else:
            numbers = drift.bin_levels(periods.reference[name].to_list(), served[name].to_list())
        columns.append(drift.distance(name, *numbers, parts, limits.drift_quantile))
    predictions = asdict(columns.pop())
    del predictions["column"]
    share = sum(column.drifted for column in columns) / len(columns)
    columns.sort(key=lambda column: (column.threshold - column.distance, column.column))
    shown = {
        "columns": [asdict(column) for column in columns],
        "share": share,
        "alarm": share > limits.max_drifted_share,
    }
    return shown, predictions


def _performance(problem: Problem, periods: Periods) -> tuple[dict[str, Any], int]:
    """Realised against expected performance, and the number of matured rows that it rests on."""
    limits = problem.monitoring
    matured, immature, unlabeled = periods.matured(problem)
    primary = metric_named(problem.metrics.primary)
    found: dict[str, Any] = {
        "metric": problem.metrics.primary,
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
    truth, said = (periods.reference[name].to_numpy() for name in ("label", "probability"))
    realised = measure(matured["label"].to_numpy(), matured["probability"].to_numpy())
    blocks = [measure(truth[rows], said[rows]) for rows in parts]

    def inside(name: str) -> list[float]:
        return [block[name] for block in blocks if block[name] is not None]

    name = problem.metrics.primary
    if realised[name] is not None and len(inside(name)) > 1:
        z = drift.standard_score(primary.loss(realised[name]), [primary.loss(value) for value in inside(name)])
        found |= {
            "realised": realised[name],
            "expected": float(np.mean(inside(name))),
            "deviation": float(np.std(inside(name), ddof=1)),
            "z": z,
            "alarm": z > limits.performance_z,
        }
    found["estimated"] = drift.estimated_performance(matured["probability"].to_numpy(), periods.threshold)
    found["others"] = {
        other: {"realised": realised[other], "expected": float(np.mean(inside(other))) if inside(other) else None}
        for other in ("label_rate", "mean_probability", *METRICS)
        if other != name
    }
    return found, len(matured)


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
