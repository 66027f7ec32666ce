"""Checks for leakage: a feature, a pattern of missing values, an instant or a model that is too good to be honest.

They look at the training set and at scores alone, so they hold for any problem; limits are in the problem file. What
they can't see (an honest-looking column that knows the future) is for tests that change the future.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.checks import Check, rows
from hindcast.evaluation.metrics import DIGITS, roc_auc
from hindcast.problem import Problem

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
    labels = frame[problem.label.column].cast(pl.Int64).to_numpy()
    areas = sorted(((feature_roc_auc(frame[name], labels), name) for name in features), reverse=True)
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


def feature_roc_auc(values: pl.Series, labels: NDArray[np.int64]) -> float:
    """How well one column alone orders the labels, in whatever direction.

    The larger of two areas under the ROC curve: of the values themselves, where there are any, up or down; and of
    the label rates of 50 equally large bins or of the categories, missing being one more, where each half of the
    rows (every second one) is judged by the rates of the other.

    Args:
        values: Numbers or categories, in the order of time, shape (n,).
        labels: 0 or 1, shape (n,).

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
    limit, label = problem.leakage.max_null_pattern_rate, problem.label.column
    found = [
        pattern
        for pattern in null_patterns(frame, features, label)
        if pattern["rows"] >= problem.leakage.min_null_pattern_rows
    ]
    worst = max(found, key=lambda pattern: pattern["label_rate"], default=None)
    if worst is None:
        return Check("null_pattern_label_rate", None, limit, True, "no feature is missing often enough to judge")
    names = ", ".join(worst["missing"][:_SHOWN]) + (", …" if len(worst["missing"]) > _SHOWN else "")
    rate = round(worst["label_rate"], DIGITS)
    detail = f"highest: {worst['rows']} rows {'with exactly' if worst['exactly'] else 'with'} {names} missing"
    at_fault = frame.filter(_missing(frame, worst["missing"]))[problem.entity.key].head(1).to_list()
    culprit = f"where {names} {'is' if len(worst['missing']) == 1 else 'are'} missing, the label is 1 in nearly all of "
    culprit += f"{rows(worst['rows'])}, e.g. {problem.entity.key} {', '.join(map(str, at_fault))}"
    look_at = _declared(problem, "max_null_pattern_rate")
    return Check("null_pattern_label_rate", rate, limit, rate < limit, detail, culprit, look_at)


def null_patterns(frame: pl.DataFrame, features: Sequence[str], label: str) -> list[dict[str, Any]]:
    """Label rates where features are missing: per feature, and per set of features that are missing together.

    Returns:
        Dictionaries of `missing` (names), `exactly` (only these are missing, or these among others), `rows` and
        `label_rate`.
    """
    flags = frame.select(
        label, *((pl.col(name).is_null() | _not_a_number(frame, name)).alias(name) for name in features)
    )
    gappy = [name for name in features if flags[name].any()]
    if not gappy:
        return []
    rate = pl.col(label).cast(pl.Float64).mean().alias("label_rate")
    found = []
    for name in gappy:
        rows = flags.filter(name).select(pl.len().alias("rows"), rate).row(0, named=True)
        found.append({"missing": [name], "exactly": False} | rows)
    for group in flags.group_by(gappy).agg(pl.len().alias("rows"), rate).sort(gappy).iter_rows(named=True):
        if missing := [name for name in gappy if group[name]]:
            pattern = {"rows": group["rows"], "label_rate": group["label_rate"]}
            found.append({"missing": missing, "exactly": True} | pattern)
    return found


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
    areas = sorted(
        ((candidate[window]["roc_auc"] or 0.0, candidate["name"], window) for candidate in candidates
         for window in ("validation", "test")),
        reverse=True,
    )  # fmt: skip
    worst, name, window = areas[0]
    limit = problem.leakage.max_roc_auc
    culprit = f"candidate {name} is too good on {window}; one of its features knows the label"
    look_at = _declared(problem, "max_roc_auc")
    return Check("model_roc_auc", worst, limit, worst <= limit, f"highest: {name} on {window}", culprit, look_at)
