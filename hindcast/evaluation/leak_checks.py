"""Checks for leakage: a feature, a pattern of missing values, an instant or a model that is too good to be honest.

They look at the training set and at scores alone, so they hold for any problem; limits are in the problem file. What
they can't see (an honest-looking column that knows the future) is for tests that change the future.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.checks import Check, rows
from hindcast.problem import Problem
from hindcast.tasks import problem_task
from hindcast.tasks.binary import roc_auc
from hindcast.tasks.task import DIGITS, LEAST_ROWS
from hindcast.training.training_data import labels_of

_BINS = 50
_SHRINK = 20  # rows by which a group's rate leans towards the overall one
_SHOWN = 3


def check_training_set(
    problem: Problem, frame: pl.DataFrame, features: Sequence[str], windows: dict[str, tuple[datetime, datetime]]
) -> list[Check]:
    """All alarms that need no model.

    Args:
        problem: Limits and the names of the columns.
        frame: The training set: one row per labeled entity, with `split`.
        features: Names of its feature columns.
        windows: First (included) and last (excluded) prediction time (UTC) per split.
    """
    return [
        check_features(problem, frame, features),
        check_null_patterns(problem, frame, features),
        check_known_at(problem, frame, windows),
    ]


def check_features(problem: Problem, frame: pl.DataFrame, features: Sequence[str]) -> Check:
    """No single feature may tell the label apart better than the limit."""
    frame = frame.sort(problem.prediction_time.column, problem.entity.key)
    events = list(problem_task(problem).events(labels_of(problem, frame)).values())
    events = [event for event in events if event.sum() >= LEAST_ROWS] or events
    areas = sorted(((_highest_area(frame[name], events), name) for name in features), reverse=True)
    limit = problem.leakage.max_feature_roc_auc
    worst = areas[0][0] if areas else 0.5
    shown = ", ".join(f"{name} {area:.3f}" for area, name in areas[:_SHOWN])
    return Check(
        "single_feature_roc_auc",
        round(worst, DIGITS),
        limit,
        worst <= limit,
        f"highest: {shown}",
        f"feature {areas[0][1]} alone tells the label apart" if areas else "",
        _declared(problem, "max_feature_roc_auc"),
    )


def _highest_area(values: pl.Series, events: Iterable[NDArray[np.bool_]]) -> float:
    return max((feature_roc_auc(values, event.astype(np.int64)) for event in events), default=0.5)


def feature_roc_auc(values: pl.Series, labels: NDArray[np.int64]) -> float:
    """How well one column alone tells whether an event of the label comes, by high values or by low ones.

    The larger of two areas under the ROC curve: of the values themselves, where there are any, up or down; and of
    the label rates of 50 equally large bins or of the categories, missing being one more, where each half of the
    rows (every second one) is judged by the rates of the other.

    Args:
        values: Numbers or categories, in the order of time, shape (n,).
        labels: 1 where the event came, else 0, shape (n,).

    Returns:
        Between 0.5, or a little less by chance, and 1.
    """
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        numbers = values.cast(pl.Float64).to_numpy()
        known = np.isfinite(numbers)
        edges = np.unique(np.quantile(numbers[known], np.arange(1, _BINS) / _BINS)) if known.any() else np.empty(0)
        groups = np.where(known, np.searchsorted(edges, numbers, side="left"), len(edges) + 1)
        area = roc_auc(labels[known], numbers[known])
        plain = 0.5 if np.isnan(area) else max(area, 1 - area)
    else:
        groups = values.cast(pl.String).rank("dense").fill_null(0).to_numpy().astype(np.int64)
        plain = 0.5
    return max(plain, _grouped_roc_auc(groups, labels))


def _grouped_roc_auc(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    size, overall = int(groups.max(initial=0)) + 1, float(labels.mean())
    said = np.empty(len(labels))
    for half in (0, 1):
        learned_groups, learned_labels = groups[1 - half :: 2], labels[1 - half :: 2]
        ones = np.bincount(learned_groups, weights=learned_labels, minlength=size)
        rates = (ones + overall * _SHRINK) / (np.bincount(learned_groups, minlength=size) + _SHRINK)
        said[half::2] = rates[groups[half::2]]
    area = roc_auc(labels, said)
    return 0.5 if np.isnan(area) else area


def check_null_patterns(problem: Problem, frame: pl.DataFrame, features: Sequence[str]) -> Check:
    """That something is missing may not be the label: neither of one feature nor of several at once."""
    limit = problem.leakage.max_null_pattern_rate
    events = problem_task(problem).events(labels_of(problem, frame))
    found = [
        pattern
        for pattern in null_patterns(frame, features, events)
        if pattern["rows"] >= problem.leakage.min_null_pattern_rows
    ]
    worst = max(found, key=lambda pattern: pattern["label_rate"], default=None)
    if worst is None:
        return Check("null_pattern_label_rate", None, limit, True, "no feature is missing often enough to judge")
    names = ", ".join(worst["missing"][:_SHOWN]) + (", …" if len(worst["missing"]) > _SHOWN else "")
    rate = round(worst["label_rate"], DIGITS)
    detail = f"highest: {worst['rows']} rows {'with exactly' if worst['exactly'] else 'with'} {names} missing"
    at_fault = frame.filter(_missing(frame, worst["missing"]))[problem.entity.key].head(1).to_list()
    culprit = f"where {names} {'is' if len(worst['missing']) == 1 else 'are'} missing, {worst['event']} in nearly all "
    culprit += f"of {rows(worst['rows'])}, e.g. {problem.entity.key} {', '.join(map(str, at_fault))}"
    look_at = _declared(problem, "max_null_pattern_rate")
    return Check("null_pattern_label_rate", rate, limit, rate < limit, detail, culprit, look_at)


def null_patterns(
    frame: pl.DataFrame, features: Sequence[str], events: Mapping[str, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """Label rates where features are missing: per feature, and per set of features that are missing together.

    Args:
        frame: Rows with the features.
        features: Their names.
        events: Of the label, each of shape (n,), by name.

    Returns:
        Dictionaries of `missing` (names), `exactly` (only these are missing, or these among others), `rows`,
        `label_rate` (of the event that is most frequent there) and this `event`.
    """
    flags = frame.select((pl.col(name).is_null() | _not_a_number(frame, name)).alias(name) for name in features)
    gappy = [name for name in features if flags[name].any()]
    if not gappy:
        return []
    flags = flags.with_columns(pl.Series(f"__event_{number}", came) for number, came in enumerate(events.values()))
    rates = [pl.col(f"__event_{number}").mean() for number in range(len(events))]
    counted = [pl.len().alias("rows"), pl.concat_list(rates).alias("rates")]

    def pattern(group: dict[str, Any], missing: list[str], exactly: bool) -> dict[str, Any]:
        rate, event = max(zip(group["rates"], events, strict=True))
        return {"missing": missing, "exactly": exactly, "rows": group["rows"], "label_rate": rate, "event": event}

    groups = flags.group_by(gappy).agg(counted).sort(gappy).iter_rows(named=True)
    return [
        *(pattern(flags.filter(name).select(counted).row(0, named=True), [name], False) for name in gappy),
        *(pattern(each, missing, True) for each in groups if (missing := [name for name in gappy if each[name]])),
    ]


def _missing(frame: pl.DataFrame, names: Sequence[str]) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_null() | _not_a_number(frame, name) for name in names)


def _declared(problem: Problem, key: str) -> str:
    return f"problems/{problem.name}.yaml: leakage.{key}"


def _not_a_number(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).is_nan() if frame[name].dtype.is_float() else pl.lit(False)


def check_known_at(problem: Problem, frame: pl.DataFrame, windows: dict[str, tuple[datetime, datetime]]) -> Check:
    """No label may be known before it was asked for, nor after the end of the window that uses it."""
    asked, known = pl.col(problem.prediction_time.column), pl.col(problem.label.known_at)
    ends = {split: end.replace(tzinfo=None) for split, (_, end) in windows.items()}
    end = pl.col("split").replace_strict(ends, default=None, return_dtype=pl.Datetime("us"))
    wrong = {
        "early": known <= asked,
        "late": known > end,
        "absent": known.is_null() | pl.col(problem.label.column).is_null() | end.is_null(),
    }
    counts = frame.select(**{name: mask.sum() for name, mask in wrong.items()}).row(0, named=True)
    detail = (
        f"labels known before they were asked for: {counts['early']}; known only after their window's end: "
        f"{counts['late']}; without a label, its instant or a window: {counts['absent']}"
    )
    violations = sum(counts.values())
    at_fault = frame.filter(pl.any_horizontal(mask.fill_null(False) for mask in wrong.values()))
    example = at_fault[problem.entity.key].head(1).to_list()
    culprit = f"{rows(violations)}, e.g. {problem.entity.key} {example[0]}" if example else ""
    look_at = f"problems/{problem.name}.yaml: label.known_at, prediction_time and splits"
    return Check("known_at_violations", violations, 0, violations == 0, detail, culprit, look_at)


def check_models(problem: Problem, candidates: Sequence[dict[str, Any]]) -> Check:
    """No model may be better than anything honest at this horizon.

    Args:
        problem: The limit.
        candidates: Each with `name`, and `validation` and `test` metrics.
    """
    ordering = problem_task(problem).ordering
    areas = sorted(
        ((candidate[window][ordering] or 0.0, candidate["name"], window) for candidate in candidates
         for window in ("validation", "test")),
        reverse=True,
    )  # fmt: skip
    worst, name, window = areas[0]
    limit = problem.leakage.max_roc_auc
    culprit = f"candidate {name} is too good on {window}; one of its features knows the label"
    look_at = _declared(problem, "max_roc_auc")
    return Check("model_roc_auc", worst, limit, worst <= limit, f"highest: {name} on {window}", culprit, look_at)
