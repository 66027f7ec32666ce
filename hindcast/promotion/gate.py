"""Whether a model may be used: named checks, each with its value and limit, and one verdict that is kept.

Beside the champion, one of two questions is asked. A *refresh* (the champion's features, parameters and code, on newer
data) must be no worse; a *change* (of any of them) must be better. Each model is compared on its own features.

What is measured is in `evaluation`, `leakage` and `package`; what follows from a verdict is in `champion`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.evaluation.leak_checks import Check, check_models, check_training_set
from hindcast.evaluation.metrics import DIGITS, Labels, Probabilities, metric_named
from hindcast.evaluation.scoring import own_features, score
from hindcast.files import write_atomically
from hindcast.lake import Lake
from hindcast.package.model import FEATURES, METRICS, ServedModel
from hindcast.problem import Problem
from hindcast.promotion.champion import current
from hindcast.settings import Settings
from hindcast.training.training_data import TrainingData

PARITY_LIMIT = 1e-5
"""Largest difference between the exported graph and scikit-learn, and between a package and its stored rows."""
RESAMPLES = 500

PROMOTED, REFUSED, UNDECIDED, ALREADY = "promoted", "refused", "a person decides", "already champion"
REFRESH, CHANGE = "refresh", "change"
COMPARABLE, NO_WORSE, BETTER = "comparable_with_champion", "not_worse_than_champion", "better_than_champion"
_LEAST_DAYS = 2
_MADE_BY = {"feature_definition": "features", "training_declaration": "parameters", "training_code": "code"}
"""What a package's metadata says of how it was made, apart from the data."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says about one version. The form of `verdicts/<version>.json`.

    Attributes:
        version: The challenger.
        champion: The version in use when it was judged; None before the first one.
        promoted: Whether the challenger may be used.
        verdict: `promoted`; `refused`; `a person decides`, where all holds but it can't be compared with the champion;
            or `already champion`.
        judged_at: The clock, ISO 8601 in UTC.
        checks: Every check with its numbers.
        question: What was asked beside the champion: `refresh` or `change`; None where there is no other champion.
        changed: What a change is of: `features`, `parameters`, `code`.
    """

    version: str
    champion: str | None
    promoted: bool
    verdict: str
    judged_at: str
    checks: tuple[Check, ...]
    question: str | None = None
    changed: tuple[str, ...] = ()


class IncomparableError(HindcastError):
    """Why two models can't be compared, in one sentence."""


def evaluate_gate(
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
    champion = entry["version"] if entry else None
    question, changed, compared = against_champion(settings, problem, data, challenger, champion)
    checks = [
        *bar_checks(problem, chosen, report["baselines"]),
        *check_training_set(problem, data.frame, challenger.signature.names, data.windows),
        check_models(problem, report["candidates"]),
        parity_check(parity),
        smoke_check(challenger.smoke_test()),
        compared,
    ]
    verdict = judge(challenger.version, champion, checks, judged_at, question, changed)
    keep(verdict, verdict_file(settings, verdict.version))
    return verdict


def verdict_file(settings: Settings, version: str) -> Path:
    """Where the verdict on a version is kept."""
    return settings.verdicts / f"{version}.json"


def judge(
    version: str,
    champion: str | None,
    checks: Sequence[Check],
    judged_at: datetime,
    question: str | None = None,
    changed: Sequence[str] = (),
) -> Verdict:
    """Promotes a version for which every check holds, unless it is in use already; see `Verdict`."""
    failed = [check.name for check in checks if not check.holds]
    verdict = REFUSED if failed else PROMOTED
    if failed == [COMPARABLE]:
        verdict = UNDECIDED
    if version == champion:
        verdict = ALREADY
    promoted = verdict == PROMOTED
    return Verdict(version, champion, promoted, verdict, judged_at.isoformat(), tuple(checks), question, tuple(changed))


def against_champion(
    settings: Settings, problem: Problem, data: TrainingData, challenger: ServedModel, champion: str | None
) -> tuple[str | None, tuple[str, ...], Check]:
    """Both packages on the challenger's test window, each on its own features.

    Args:
        settings: Of the home that holds both packages.
        problem: `metrics`.
        data: The training set that the challenger was made from.
        challenger: The package that is judged.
        champion: Version of the model in use; None where there is none.

    Returns:
        The question that is asked, what is changed, and the check: see `Verdict`.
    """
    if champion is None or champion == challenger.version:
        return None, (), Check(NO_WORSE, None, problem.metrics.tolerance, True, "there is no other champion")
    question: str | None = None
    changed: tuple[str, ...] = ()
    try:
        other = ServedModel.load(settings.models / champion)
        changed = changes(challenger.metadata, other.metadata)
        question = CHANGE if changed else REFRESH
        comparison = compare_models(settings, problem, data, challenger, other)
        check = champion_check(problem, question, changed, comparison, champion)
    except HindcastError as error:
        told = f"{champion} can't be compared with: {error} A person decides: `hindcast promote {challenger.version} "
        check = Check(COMPARABLE, None, None, False, f'{told}--because "…"`.')
    return question, changed, check


def changes(challenger: dict[str, Any], champion: dict[str, Any]) -> tuple[str, ...]:
    """In what two models were made otherwise, the data apart: `features`, `parameters`, `code`.

    What a package of before doesn't say counts as otherwise.

    Args:
        challenger: Its metadata.
        champion: Its metadata.
    """
    return tuple(
        name for key, name in _MADE_BY.items() if champion.get(key) is None or champion.get(key) != challenger.get(key)
    )


def compare_models(
    settings: Settings, problem: Problem, data: TrainingData, challenger: ServedModel, champion: ServedModel
) -> dict[str, Any]:
    """As `compare`, on the challenger's test window.

    Raises:
        HindcastError: The champion's features can't be made any more, there are too few rows in common, or the metric
            isn't defined on them.
    """
    test = data.frame.filter(pl.col("split") == "test")
    theirs = champion_features(settings, problem, data, test, challenger, champion)
    key = problem.entity.key
    mine = test.join(theirs.select(key), on=key, how="semi", maintain_order="left")
    theirs = mine.select(key).join(theirs, on=key, how="left", maintain_order="left")
    new, old = (
        score(model, rows)["probability"].to_numpy() for model, rows in ((challenger, mine), (champion, theirs))
    )
    labels = mine[problem.label.column].cast(pl.Int64).to_numpy()
    asked_at = mine[problem.prediction_time.column].to_numpy()
    return compare(problem.metrics.primary, labels, new, old, asked_at, problem.budget.seed)


def champion_features(
    settings: Settings,
    problem: Problem,
    data: TrainingData,
    test: pl.DataFrame,
    challenger: ServedModel,
    champion: ServedModel,
) -> pl.DataFrame:
    """The test window's entities with the champion's features, as its package defines them, at the data's snapshot.

    Raises:
        HindcastError: They can't be made any more.
    """
    gone = [name for name in champion.signature.names if name not in test.columns]
    defined = champion.metadata.get("feature_definition")
    alike = defined is not None and defined == challenger.metadata.get("feature_definition")
    defines = (champion.folder / FEATURES).exists()
    if not gone and (alike or not defines):
        return test
    if not defines:
        raise IncomparableError(
            f"it needs what the training set no longer has ({', '.join(gone)}), and its package doesn't define it."
        )
    key, signature = problem.entity.key, champion.signature
    wanted = dict.fromkeys([key, problem.prediction_time.column, *signature.join_keys, *signature.request_fields])
    with Lake(settings).reading(data.snapshot) as connection:
        there = [name for name, *_ in connection.execute(f"DESCRIBE {problem.split_table}").fetchall()]
        if absent := [name for name in wanted if name not in there]:
            raise IncomparableError(f"{problem.split_table} no longer has {', '.join(absent)}, which it needs.")
        listed = ", ".join(f'"{name}"' for name in wanted)
        entities = connection.execute(f"SELECT {listed} FROM {problem.split_table} WHERE split = 'test'").pl()
    entities = test.select(key).join(entities, on=key, how="inner", maintain_order="left")
    return own_features(settings, problem, champion, entities, data.snapshot)


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


def champion_check(
    problem: Problem, question: str, changed: Sequence[str], comparison: dict[str, Any], champion: str
) -> Check:
    """The answer to the question, by the interval's upper end alone: the sign of the mean difference decides nothing.

    A refresh holds up to the tolerance (non-inferiority), its edge included. A change holds below minus the margin.

    Args:
        problem: `metrics.primary`, `metrics.tolerance`, `metrics.margin`.
        question: `refresh` or `change`.
        changed: What a change is of.
        comparison: As `compare` makes it.
        champion: Version of the model that it is compared with.

    Raises:
        IncomparableError: The rows are of fewer than two days, or the metric isn't defined on them.
    """
    difference, low, high = (comparison[key] for key in ("difference", "low", "high"))
    if comparison["days"] < _LEAST_DAYS:
        raise IncomparableError(
            f"the test window has {comparison['rows']} rows in common with it, of {comparison['days']} days; there "
            f"must be {_LEAST_DAYS}."
        )
    if not np.isfinite([difference, low, high]).all():
        raise IncomparableError(f"{problem.metrics.primary} isn't defined on the rows in common with it.")
    detail = (
        f"{champion}: difference of {problem.metrics.primary} {difference:+.5f} (below 0 is better), 95 % of day-block "
        f"resamples between {low:+.5f} and {high:+.5f}, {comparison['days']} days, {comparison['rows']} rows"
    )
    if question == REFRESH:
        limit = problem.metrics.tolerance
        return Check(NO_WORSE, high, limit, high <= limit, f"A refresh, of newer data alone. {detail}")
    limit = -problem.metrics.margin
    return Check(BETTER, high, limit, high < limit, f"A change of {', '.join(changed)}. {detail}")


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
        `difference` (challenger's loss less champion's), `low` and `high` (95 %), `days`, `rows`. NaN where the
        metric isn't defined on the rows.
    """
    metric = metric_named(primary)
    if not len(labels):
        return {"difference": float("nan"), "low": float("nan"), "high": float("nan"), "days": 0, "rows": 0}
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
    low, high = np.quantile(resampled, [0.025, 0.975]) if len(resampled) else (np.nan, np.nan)
    found = {"difference": difference(slice(None)), "low": float(low), "high": float(high)}
    return {name: round(value, DIGITS) for name, value in found.items()} | {"days": days, "rows": len(labels)}


def keep(verdict: Verdict, path: Path) -> None:
    """Writes a verdict; earlier ones on the same version stay in the file, newest first, under `earlier`.

    What people decided (`keep_decision`) stays as well. That a version is in use already, or the same verdict again, is
    no news: the file stays as it is.
    """
    new = json.loads(json.dumps(asdict(verdict)))
    old = json.loads(path.read_text()) if path.exists() else {}
    earlier, decisions = old.pop("earlier", []), old.pop("decisions", [])
    if old and (verdict.verdict == ALREADY or old | {"judged_at": ""} == new | {"judged_at": ""}):
        return
    _write(path, new | {"earlier": [old, *earlier] if old else []}, decisions)


def keep_decision(path: Path, version: str, decision: dict[str, str]) -> None:
    """Adds what a person decided about a version to its verdict's file, under `decisions`, newest first.

    Where the gate has never judged it, the file says so.
    """
    never = asdict(Verdict(version, None, False, "never judged", decision["at"], ())) | {"earlier": []}
    content = json.loads(path.read_text()) if path.exists() else never
    _write(path, content, [decision, *content.pop("decisions", [])])


def _write(path: Path, content: dict[str, Any], decisions: Sequence[dict[str, str]]) -> None:
    more = {"decisions": list(decisions)} if decisions else {}
    write_atomically(path, json.dumps(content | more, indent=2) + "\n")


def shown_checks(checks: Sequence[Check]) -> str:
    """A Markdown table of checks."""
    lines = ["| check | holds | value | limit | |", "|---|---|---|---|---|"]
    for check in checks:
        value, limit = ("" if number is None else f"{number:.6g}" for number in (check.value, check.limit))
        lines.append(f"| {check.name} | {'yes' if check.holds else '**no**'} | {value} | {limit} | {check.detail} |")
    return "\n".join(lines)


def explain_failed(problem: str, checks: Sequence[Check]) -> str:
    """The checks that don't hold, in words, each with the key of the problem file that holds its limit."""
    return " ".join(_explain(problem, check) for check in checks if not check.holds)


def _explain(problem: str, check: Check) -> str:
    keys = {"gain_over_baseline_at_least": "baseline.min_gain", "not_worse_than_champion": "metrics.tolerance"}
    for end, bound in (("_at_least", "min"), ("_at_most", "max")):
        if check.name.startswith("test_") and check.name.endswith(end):
            keys[check.name] = f"metrics.bars.{check.name.removeprefix('test_').removesuffix(end)}.{bound}"
    if not check.look_at and check.name in keys:
        check = replace(check, look_at=f"problems/{problem}.yaml: {keys[check.name]}")
    return check.message()
