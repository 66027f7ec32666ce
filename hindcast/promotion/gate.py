"""The promotion gate: named checks of a package, each with its value and limit, and one verdict on it.

Beside the champion, one of two questions is asked. A *refresh* (the champion's features, parameters and code, on newer
data) must be no worse; a *change* (of any of them) must be better. Each model is compared on its own features.

Metrics and intervals are in `evaluation`; verdicts are kept by `verdict`; `champion` applies them.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hindcast.artefacts import require_json
from hindcast.checks import Check
from hindcast.errors import HindcastError
from hindcast.evaluation.intervals import compare_losses
from hindcast.evaluation.leak_checks import check_models, check_training_set
from hindcast.evaluation.scoring import check_task, own_features, predictions, score
from hindcast.lake import Lake, check_columns
from hindcast.package.model import METRICS, PARITY_LIMIT, ServedModel
from hindcast.pages import markdown_table
from hindcast.problem import Problem
from hindcast.promotion.champion import current
from hindcast.promotion.verdict import ALREADY, PROMOTED, REFUSED, UNDECIDED, Verdict, keep, verdict_file
from hindcast.settings import Settings
from hindcast.sql import identifiers, table_identifier
from hindcast.tasks import problem_task
from hindcast.tasks.task import DIGITS
from hindcast.training.training_data import TrainingData, labels_of

REFRESH, CHANGE = "refresh", "change"
COMPARABLE, NO_WORSE, BETTER = "comparable_with_champion", "not_worse_than_champion", "better_than_champion"
_LEAST_DAYS = 2
_MADE_BY = {"feature_definition": "features", "training_declaration": "parameters", "training_code": "code"}
"""What a package's metadata says of how it was made, apart from the data."""


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
    parity = require_json(folder / METRICS)["parity"]
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
        decide = f'`hindcast promote {challenger.version} --because "…"`'
        reason = f"{champion} can't be compared with: {error} A person decides: {decide}."
        check = Check(COMPARABLE, None, None, False, reason)
    return question, changed, check


def changes(challenger: dict[str, Any], champion: dict[str, Any]) -> tuple[str, ...]:
    """In what two models were made otherwise, the data apart: `features`, `parameters`, `code`.

    Args:
        challenger: Its metadata.
        champion: Its metadata.
    """
    return tuple(name for key, name in _MADE_BY.items() if champion[key] != challenger[key])


def compare_models(
    settings: Settings, problem: Problem, data: TrainingData, challenger: ServedModel, champion: ServedModel
) -> dict[str, Any]:
    """As `compare_losses`, on the challenger's test window.

    Raises:
        HindcastError: The champion predicts something else, its features can't be made any more, there are too few
            rows in common, or the metric isn't defined on them.
    """
    check_task(problem, champion)
    test = data.frame.filter(pl.col("split") == "test")
    theirs = champion_features(settings, problem, data, test, challenger, champion)
    key = problem.entity.key
    mine = test.join(theirs.select(key), on=key, how="semi", maintain_order="left")
    theirs = mine.select(key).join(theirs, on=key, how="left", maintain_order="left")
    task = problem_task(problem)
    new, old = (predictions(task, score(model, rows)) for model, rows in ((challenger, mine), (champion, theirs)))
    asked_at = mine[problem.prediction_time.column].to_numpy()
    return compare_losses(
        task, problem.metrics.primary, labels_of(problem, mine), new, old, asked_at, problem.budget.seed
    )


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
    if not gone and champion.metadata["feature_definition"] == challenger.metadata["feature_definition"]:
        return test
    key, signature = problem.entity.key, champion.signature
    wanted = dict.fromkeys([key, problem.prediction_time.column, *signature.join_keys, *signature.request_fields])
    with Lake(settings).reading(data.snapshot) as connection:
        check_columns(connection, problem.split_table, wanted, "it")
        table = table_identifier(problem.split_table)
        entities = connection.execute(f"SELECT {identifiers(wanted)} FROM {table} WHERE split = 'test'").pl()
    entities = test.select(key).join(entities, on=key, how="inner", maintain_order="left")
    return own_features(settings, problem, champion, entities, data.snapshot)


def bar_checks(problem: Problem, chosen: dict[str, Any], baselines: dict[str, Any]) -> list[Check]:
    """The problem file's bars on the test window, and the gain over the label's history.

    Args:
        problem: `metrics.bars` and `baseline.min_gain`.
        chosen: The chosen candidate's entry of the evaluation.
        baselines: Those of the evaluation.
    """
    task = problem_task(problem)
    checks = []
    for name, bar in problem.metrics.bars.items():
        value = chosen["test"][name]
        for limit, kind in ((bar.min, "at_least"), (bar.max, "at_most")):
            if limit is not None:
                holds = value is not None and (value >= limit if kind == "at_least" else value <= limit)
                checks.append(Check(f"test_{name}_{kind}", value, limit, holds))
    historic = baselines[task.baseline_names[1]]["test"]
    gain, what = task.gain(chosen["test"], historic, problem.metrics.primary)
    limit = problem.baseline.min_gain
    detail = f"{what} for the label's history per {' and '.join(problem.baseline.columns) or 'window'}"
    return [*checks, Check("gain_over_baseline_at_least", gain, limit, gain is not None and gain >= limit, detail)]


def parity_check(parity: dict[str, Any]) -> Check:
    """The exported graph says what scikit-learn says.

    Args:
        parity: `rows` and `max_difference` (in units of `Task.parity_scale`) of the package.
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
        comparison: As `compare_losses` makes it.
        champion: Version of the model that it is compared with.

    Raises:
        HindcastError: The rows are of fewer than two days, or the metric isn't defined on them.
    """
    difference, low, high = (comparison[key] for key in ("difference", "low", "high"))
    if comparison["days"] < _LEAST_DAYS:
        raise HindcastError(
            f"the test window has {comparison['rows']} rows in common with it, of {comparison['days']} days; there "
            f"must be {_LEAST_DAYS}."
        )
    if not np.isfinite([difference, low, high]).all():
        raise HindcastError(f"{problem.metrics.primary} isn't defined on the rows in common with it.")
    detail = (
        f"{champion}: difference of {problem.metrics.primary} {difference:+.5f} (below 0 is better), 95 % of day-block "
        f"resamples between {low:+.5f} and {high:+.5f}, {comparison['days']} days, {comparison['rows']} rows"
    )
    if question == REFRESH:
        limit = problem.metrics.tolerance
        return Check(NO_WORSE, high, limit, high <= limit, f"A refresh, of newer data alone. {detail}")
    limit = -problem.metrics.margin
    return Check(BETTER, high, limit, high < limit, f"A change of {', '.join(changed)}. {detail}")


def shown_checks(checks: Sequence[Check]) -> str:
    """A Markdown table of checks."""
    return markdown_table(
        (
            {
                "check": check.name,
                "holds": "yes" if check.holds else "**no**",
                "value": check.value,
                "limit": check.limit,
                "": check.detail,
            }
            for check in checks
        ),
        ".6g",
    )


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
