"""Whether a model may be used: named checks, each with its value and limit, and one verdict that is kept.

What is measured is in `evaluation`, `leakage` and `package`; what follows from a verdict is in `champion`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.files import write_atomically
from hindcast.models.champion import current
from hindcast.models.leakage import Check, check_models, check_training_set
from hindcast.models.metrics import DIGITS, Labels, Probabilities, metric_named
from hindcast.models.model import METRICS, ServedModel
from hindcast.models.scoring import score
from hindcast.models.training_data import TrainingData
from hindcast.problem import Problem
from hindcast.settings import Settings

PARITY_LIMIT = 1e-5
"""Largest difference between the exported graph and scikit-learn, and between a package and its stored rows."""
RESAMPLES = 500

PROMOTED, REFUSED, ALREADY = "promoted", "refused", "already champion"


@dataclass(frozen=True)
class Verdict:
    """What the gate says about one version. The form of `verdicts/<version>.json`.

    Attributes:
        version: The challenger.
        champion: The version in use when it was judged; None before the first one.
        promoted: Whether the challenger may be used.
        verdict: `promoted`, `refused` or `already champion`.
        judged_at: The clock, ISO 8601 in UTC.
        checks: Every check with its numbers.
    """

    version: str
    champion: str | None
    promoted: bool
    verdict: str
    judged_at: str
    checks: tuple[Check, ...]


def hold(
    settings: Settings,
    problem: Problem,
    data: TrainingData,
    report: dict[str, Any],
    folder: Path,
    judged_at: datetime,
) -> Verdict:
    """Judges a package by everything that is known about it, and keeps the verdict.

    Args:
        settings: Where the champion and the verdicts are.
        problem: Bars and limits.
        data: The training set that the package was made from.
        report: Of the evaluation that it was made from.
        folder: The package.
        judged_at: The clock.
    """
    challenger = ServedModel.load(folder)
    chosen = next(each for each in report["candidates"] if each["chosen"])
    parity = json.loads((folder / METRICS).read_text())["parity"]
    entry = current(settings)
    champion = ServedModel.load(entry["path"]) if entry else None
    checks = [
        *bar_checks(problem, chosen, report["baselines"]),
        *check_training_set(problem, data.frame, challenger.signature.names, data.windows),
        check_models(problem, report["candidates"]),
        parity_check(parity),
        smoke_check(challenger.smoke_test()),
        against_champion(problem, data.frame, challenger, champion),
    ]
    verdict = judge(challenger.version, champion.version if champion else None, checks, judged_at)
    keep(verdict, verdict_file(settings, verdict.version))
    return verdict


def verdict_file(settings: Settings, version: str) -> Path:
    """Where the verdict on a version is kept."""
    return settings.verdicts / f"{version}.json"


def judge(version: str, champion: str | None, checks: Sequence[Check], judged_at: datetime) -> Verdict:
    """Promotes a version for which every check holds, unless it is in use already."""
    verdict = PROMOTED if all(check.holds for check in checks) else REFUSED
    if version == champion:
        verdict = ALREADY
    return Verdict(version, champion, verdict == PROMOTED, verdict, judged_at.isoformat(), tuple(checks))


def against_champion(
    problem: Problem, frame: pl.DataFrame, challenger: ServedModel, champion: ServedModel | None
) -> Check:
    """Both packages on the challenger's test window, as `compare` and `champion_check` put it."""
    if champion is None or champion.version == challenger.version:
        return champion_check(problem, None, "there is no other champion")
    gone = [name for name in champion.signature.names if name not in frame.columns]
    if gone:
        reason = f"{champion.version} needs what the training set no longer has: {', '.join(gone)}"
        return champion_check(problem, None, reason)
    test = frame.filter(pl.col("split") == "test")
    new, old = (score(model, test)["probability"].to_numpy() for model in (challenger, champion))
    labels = test[problem.label.column].cast(pl.Int64).to_numpy()
    asked_at = test[problem.prediction_time.column].to_numpy()
    comparison = compare(problem.metrics.primary, labels, new, old, asked_at, problem.budget.seed)
    return champion_check(problem, comparison, f"{champion.version}: ")


def bar_checks(problem: Problem, chosen: dict[str, Any], baselines: dict[str, Any]) -> list[Check]:
    """The problem file's bars on the test window, and the gain over the historic rate.

    Args:
        problem: `metrics.bars` and `baseline.min_gain`.
        chosen: The chosen candidate's entry of the evaluation.
        baselines: Those of the evaluation.
    """
    checks = []
    for name, bar in problem.metrics.bars.items():
        metric_named(name)
        value = chosen["test"][name]
        for limit, kind in ((bar.min, "at_least"), (bar.max, "at_most")):
            if limit is not None:
                holds = value is not None and (value >= limit if kind == "at_least" else value <= limit)
                checks.append(Check(f"test_{name}_{kind}", value, limit, holds))
    model, historic = chosen["test"]["roc_auc"], baselines["historic_rate"]["test"]["roc_auc"]
    gain = None if model is None or historic is None else round(model - historic, DIGITS)
    limit = problem.baseline.min_gain
    detail = f"ROC AUC {model} against {historic} of the rate per {' and '.join(problem.baseline.columns) or 'window'}"
    return [*checks, Check("gain_over_baseline_at_least", gain, limit, gain is not None and gain >= limit, detail)]


def parity_check(parity: dict[str, Any]) -> Check:
    """The exported graph says what scikit-learn says.

    Args:
        parity: `rows` and `max_difference` of the package.
    """
    worst = parity["max_difference"]
    return Check("onnx_parity", worst, PARITY_LIMIT, worst <= PARITY_LIMIT, f"on {parity['rows']} test rows")


def smoke_check(difference: float) -> Check:
    """The package, loaded as a service loads it, says what it said when it was made."""
    return Check("smoke_test", round(difference, DIGITS), PARITY_LIMIT, difference <= PARITY_LIMIT)


def champion_check(problem: Problem, comparison: dict[str, Any] | None, reason: str = "") -> Check:
    """The challenger isn't worse than the champion on the same rows, by more than the tolerance.

    Holds where the mean difference of losses is in the challenger's favour, or the interval's upper end is within
    the tolerance (non-inferiority). Holds also where there is nothing to compare with, and says why.

    Args:
        problem: `metrics.primary` and `metrics.tolerance`.
        comparison: As `compare` makes it.
        reason: What it is compared with, or why there is nothing.
    """
    name, limit = "not_worse_than_champion", problem.metrics.tolerance
    if comparison is None:
        return Check(name, None, limit, True, reason)
    difference, low, high = (comparison[key] for key in ("difference", "low", "high"))
    detail = (
        f"{reason}difference of {problem.metrics.primary} {difference:+.5f} (below 0 is better), 95 % of day-block "
        f"resamples between {low:+.5f} and {high:+.5f}, {comparison['days']} days, {comparison['rows']} rows"
    )
    return Check(name, high, limit, difference <= 0 or high <= limit, detail)


def compare(
    primary: str,
    labels: Labels,
    challenger: Probabilities,
    champion: Probabilities,
    asked_at: NDArray[np.datetime64],
    seed: int,
) -> dict[str, Any]:
    """Difference of the two models' loss on the same rows, with an interval from resampling whole days.

    Rows of one day share what befell that day, so days, not rows, are what chance draws. Paired block bootstrap,
    percentile interval (B. Efron and R. Tibshirani, An introduction to the bootstrap, 1993, chapters 8 and 13).

    Args:
        primary: A metric; turned so that less is better.
        labels: Shape (n,).
        challenger: Probabilities, shape (n,).
        champion: Probabilities of the same rows, shape (n,).
        asked_at: Prediction times (UTC), shape (n,); their days are the blocks.
        seed: Of the resampling.

    Returns:
        `difference` (challenger's loss less champion's), `low` and `high` (95 %), `days`, `rows`.
    """
    metric = metric_named(primary)
    _, day = np.unique(asked_at.astype("datetime64[D]"), return_inverse=True)
    days = int(day.max()) + 1
    random = np.random.default_rng(seed)
    drawn = random.integers(days, size=(RESAMPLES, days))

    def difference(rows: Any) -> float:
        return metric.loss(metric.compute(labels[rows], challenger[rows])) - metric.loss(
            metric.compute(labels[rows], champion[rows])
        )

    if metric.per_row is not None:  # a mean over rows: sums per day are enough
        losses = np.bincount(day, weights=metric.per_row(labels, challenger) - metric.per_row(labels, champion))
        rows_of = np.bincount(day)
        resampled = losses[drawn].sum(axis=1) / rows_of[drawn].sum(axis=1)
    else:
        members = np.split(np.argsort(day, kind="stable"), np.cumsum(np.bincount(day))[:-1])
        resampled = np.array([difference(np.concatenate([members[d] for d in each])) for each in drawn])
        resampled = resampled[np.isfinite(resampled)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    found = {"difference": difference(slice(None)), "low": float(low), "high": float(high)}
    return {name: round(value, DIGITS) for name, value in found.items()} | {"days": days, "rows": len(labels)}


def keep(verdict: Verdict, path: Path) -> None:
    """Writes a verdict; earlier ones on the same version stay in the file, newest first, under `earlier`.

    That a version is in use already, or the same verdict again, is no news: the file stays as it is.
    """
    new = json.loads(json.dumps(asdict(verdict)))
    old = json.loads(path.read_text()) if path.exists() else None
    earlier = old.pop("earlier") if old else []
    if old and (verdict.verdict == ALREADY or old | {"judged_at": ""} == new | {"judged_at": ""}):
        return
    write_atomically(path, json.dumps(new | {"earlier": [old, *earlier] if old else []}, indent=2) + "\n")


def shown_checks(checks: Sequence[Check]) -> str:
    """A Markdown table of checks."""
    lines = ["| check | holds | value | limit | |", "|---|---|---|---|---|"]
    for check in checks:
        value, limit = ("" if number is None else f"{number:.6g}" for number in (check.value, check.limit))
        lines.append(f"| {check.name} | {'yes' if check.holds else '**no**'} | {value} | {limit} | {check.detail} |")
    return "\n".join(lines)
