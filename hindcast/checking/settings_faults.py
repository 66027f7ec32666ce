"""Faults of a problem file against itself and its task: metrics, candidates, windows, limits. Reads no other file."""

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from hindcast.checking.fault import Fault, did_you_mean
from hindcast.errors import HindcastError
from hindcast.package.model import Feature
from hindcast.problem import Candidate, Problem, SearchRange
from hindcast.tasks import problem_task
from hindcast.tasks.task import Task
from hindcast.training.search import fit

_UNITS = {"hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.44}
_ROWS, _ITERATIONS = 60, 2  # of the made-up table on which parameters are tried


def find_faults(file: Path, problem: Problem) -> list[Fault]:
    """All of them.

    Args:
        file: The problem file, for the faults.
        problem: Its content.
    """
    faults: list[Fault] = []

    def say(key: str, what: str) -> None:
        faults.append(Fault(file, key, what))

    try:
        task = problem_task(problem)
    except HindcastError as error:
        key, _, what = str(error).partition(": ")
        return [Fault(file, key, what)]
    _check_metrics(say, problem, task)
    for candidate in problem.candidates:
        _check_candidate(say, candidate, task)
    _check_windows(say, problem)
    for name in ("max_roc_auc", "max_feature_roc_auc"):
        value = getattr(problem.leakage, name)
        if not 0.5 < value <= 1:
            say(f"leakage.{name}", f"{value:g} is no limit: an area under the ROC curve lies between 0.5 and 1.")
    if not 0 < problem.leakage.max_null_pattern_rate <= 1:
        say("leakage.max_null_pattern_rate", "a rate lies between 0 and 1.")
    if problem.monitoring.window <= problem.label.matures_within:
        say(
            "monitoring.window",
            f"{_days(problem.monitoring.window)} days, and labels take {_days(problem.label.matures_within)} "
            "(label.matures_within): no report would ever see a label. Make the window longer.",
        )
    return faults


def _check_metrics(say: Any, problem: Problem, task: Task) -> None:
    metrics = problem.metrics
    if metrics.primary not in task.metrics:
        say(
            "metrics.primary",
            f"{task.name} has no metric {metrics.primary}; {did_you_mean(metrics.primary, task.metrics)}",
        )
    elif not task.metrics[metrics.primary].decides:
        deciding = [name for name, metric in task.metrics.items() if metric.decides]
        say(
            "metrics.primary",
            f"{metrics.primary} alone doesn't say which model is better; take one of {', '.join(deciding)}.",
        )
    for name, bar in metrics.bars.items():
        key = f"metrics.bars.{name}"
        if name not in task.metrics:
            say(key, f"{task.name} has no metric {name}; {did_you_mean(name, task.metrics)}")
            continue
        metric = task.metrics[name]
        if bar.min is None and bar.max is None:
            say(key, "it has neither min nor max; write one, or take the bar out.")
        elif bar.min is not None and bar.max is not None and bar.min > bar.max:
            say(key, f"min {bar.min:g} is above max {bar.max:g}.")
        elif metric.decides and metric.higher_is_better and bar.min is None:
            say(key, f"more is better, so write min; max {bar.max:g} refuses good models.")
        elif metric.decides and not metric.higher_is_better and bar.max is None:
            say(key, f"less is better, so write max; min {bar.min:g} refuses good models.")
        elif metric.higher_is_better and bar.min is not None and bar.min >= 1:
            say(key, f"min {bar.min:g} can't be reached: 1 is perfect.")
        elif not metric.higher_is_better and bar.max is not None and bar.max <= 0:
            say(key, f"max {bar.max:g} can't be reached: 0 is perfect.")
    try:
        task.check_metrics(metrics)
    except HindcastError as error:
        key, _, what = str(error).partition(": ")
        say(key, what)


def _check_candidate(say: Any, candidate: Candidate, task: Task) -> None:
    key = f"candidates.{candidate.name}"
    if candidate.model not in task.families:
        say(
            f"{key}.model",
            f"{task.name} has no family {candidate.model}; {did_you_mean(candidate.model, task.families)}",
        )
        return
    try:
        known = task.family(candidate.model)().get_params()
    except (TypeError, ValueError) as error:
        say(f"{key}.model", str(error))
        return
    sound = True
    for section, names in (("parameters", candidate.parameters), ("search", candidate.search)):
        for name in names:
            if name not in known:
                say(f"{key}.{section}.{name}", f"{candidate.model} has no such parameter; {did_you_mean(name, known)}")
                sound = False
    for name, values in candidate.search.items():
        if name in candidate.parameters:
            say(f"{key}.search.{name}", "it is fixed under parameters, too; take it out of one of them.")
            sound = False
        if isinstance(values, SearchRange) and values.low >= values.high:
            say(f"{key}.search.{name}", f"low {values.low:g} isn't below high {values.high:g}.")
            sound = False
        if isinstance(values, SearchRange) and values.log and values.low <= 0:
            say(f"{key}.search.{name}", f"low {values.low:g} has no logarithm; it must be above 0, or log false.")
            sound = False
        if isinstance(values, list) and not values:
            say(f"{key}.search.{name}", "the list is empty.")
            sound = False
    if sound:
        _try_values(say, key, candidate, task)


def _try_values(say: Any, key: str, candidate: Candidate, task: Task) -> None:
    """Fits to a small made-up table, with each end of each range: scikit-learn itself says what it refuses."""
    made = np.random.default_rng(0)
    matrix = made.normal(size=(_ROWS, 2)).astype(np.float32)
    labels = np.arange(_ROWS) % max(2, len(task.classes))
    features = tuple(Feature(name, "numeric", ()) for name in ("first", "second"))
    fixed = candidate.parameters.get("max_iter", _ITERATIONS)
    few = isinstance(fixed, int) and fixed > _ITERATIONS
    quick = {"max_iter": _ITERATIONS} if few or "max_iter" in task.family(candidate.model)().get_params() else {}
    quick = {} if not isinstance(fixed, int) or fixed < 1 else quick
    trials: list[tuple[str, dict[str, Any]]] = [(f"{key}.parameters", {})]
    for name, values in candidate.search.items():
        if isinstance(values, SearchRange):
            ends = [int(value) if values.integer else value for value in (values.low, values.high)]
        else:
            ends = values
        trials += [(f"{key}.search.{name}", {name: value}) for value in ends]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few iterations don't converge
        for where, parameters in trials:
            try:
                fit(task, candidate, candidate.parameters | quick | parameters, features, matrix, labels, 0)
            except HindcastError as error:
                say(where, str(error).partition(": ")[2].splitlines()[0])
                return


def _check_windows(say: Any, problem: Problem) -> None:
    spans = {name: span_of(problem, name) for name in ("train", "validation", "test")}
    for name, (start, end) in spans.items():
        if start >= end:
            say(f"splits.{name}", "its start isn't before its end.")
    for before, after in (("train", "validation"), ("validation", "test")):
        if spans[before][1] > spans[after][0] + 1e-9:
            say(f"splits.{after}", f"it begins before {before} ends: windows follow one another in time.")
    matures = problem.label.matures_within
    for name, (start, end) in spans.items():
        if start < end and timedelta(days=end - start) <= matures:
            say(
                f"splits.{name}",
                f"it is no longer than labels take to be known (label.matures_within, {_days(matures)} days): at its "
                "end hardly any of its labels is known. Make it longer.",
            )


def span_of(problem: Problem, name: str) -> tuple[float, float]:
    """Start and end in days before the as-of instant, as negative numbers; a month has 30.44 days."""
    window = getattr(problem.splits, name)
    return _offset_days(window.start), _offset_days(window.end)


def _offset_days(offset: str) -> float:
    number, unit = offset.split()
    return int(number) * _UNITS[unit.rstrip("s")]


def _days(length: timedelta) -> str:
    return f"{length / timedelta(days=1):g}"
