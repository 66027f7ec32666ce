"""Measures what a leak is worth: the same model with and without it, as scored offline and as served honestly.

The rows come from `rows`, how the result looks is in `report`. What a leak is worth is a difference of `Task.area`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.evaluation.future_home import future_home
from hindcast.evaluation.intervals import Scored, compare_areas
from hindcast.evaluation.leak_checks import Check, check_features, check_known_at, check_null_patterns
from hindcast.leaks.rows import LeakData, read_leak_data
from hindcast.leaks.trials import Model, Trial, Windows
from hindcast.leaks.variants import load_variants
from hindcast.package.model import METADATA, encode, read_package
from hindcast.problem import Candidate, Problem
from hindcast.promotion.champion import champion_folder, current
from hindcast.settings import Settings
from hindcast.tables.windows import read_windows
from hindcast.tasks import problem_task
from hindcast.training.search import fit, fitting_pool, spread
from hindcast.training.training_data import columns, find_features, labels_of
from hindcast.training.training_set import SPLIT
from hindcast.workspace import Workspace

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What one leak was worth. Figures are those of `Task.measure`.

    Attributes:
        name: Of the variant.
        description: What leaks.
        changed: Features that it changes.
        offline: Trained and tested on the variant's own columns and split: what its maker would report.
        by_time: The same columns, split by time; None where `offline` is just that.
        served: The model of `by_time`, asked with what is known at the prediction time.
        without: The same model, trained and asked with what is known at the prediction time.
        gap: Of the areas, `offline` less `served`: `difference`, `low` and `high` (95 %), `days`.
        checks: The alarms of `leakage`, as they would have judged the variant offline.
    """

    name: str
    description: str
    changed: tuple[str, ...]
    offline: dict[str, Any]
    by_time: dict[str, Any] | None
    served: dict[str, Any]
    without: dict[str, Any]
    gap: dict[str, Any]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class LeakReport:
    """The form of `leaks.json`.

    Attributes:
        problem: Name of the problem file.
        question: Its question.
        model: Name, family and parameters of what was fitted to all variants but recipes.
        snapshot: Of the lake.
        windows: First (included) and last (excluded) prediction time (UTC) per split.
        rows: In each window; `fitted`: to how many of `train`, at most, a model was fitted.
        area: The metric that is compared.
        shown: Another that is shown: the primary one.
        honest: The model without any leak, as `Task.measure` gives it.
        checks: The alarms on the honest training set.
        variants: Largest gap first.
    """

    problem: str
    question: str
    model: dict[str, Any]
    snapshot: int
    windows: dict[str, tuple[str, str]]
    rows: dict[str, int]
    area: str
    shown: str
    honest: dict[str, Any]
    checks: tuple[Check, ...]
    variants: tuple[Outcome, ...]


def measure_leaks(
    workspace: Workspace,
    period: tuple[datetime, datetime] | None = None,
    most_rows: int = 100_000,
    only: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> LeakReport:
    """Trains the champion's model (without one, the first candidate) on each variant and serves it honestly.

    Args:
        workspace: The home, and what is predicted.
        period: First and last day (midnight UTC, included) to test on; where it lies ahead of a simulated clock, the
            data is brought on in a home beside this one. None takes the problem's test window.
        most_rows: A model is fitted to at most so many rows, evenly over their time.
        only: Names of variants; all where empty.
        progress: Gets a line per step.

    Raises:
        HindcastError: A variant's declaration or SQL is wrong, there is no variant of a name in `only`, the period
            has no labels or begins before training ends, or nothing has been built in this home yet.
    """
    settings, problem = workspace.settings, workspace.problem
    lake, model = workspace.lake, model_of(settings, problem)
    split = read_windows(lake, problem)
    if not split:
        raise HindcastError(f"The lake at {settings.lake_catalogue} has no windows yet: `hindcast run` makes them.")
    windows = {name: split[name][:2] for name in ("train", "test")}
    variants = load_variants(settings)
    if period:
        windows["test"] = (period[0], period[1] + timedelta(days=1))
        if period[0] < windows["train"][1] or period[1] < period[0]:
            raise HindcastError(
                f"Training ends at {windows['train'][1]:%Y-%m-%d}: test on a later period whose last day isn't before "
                f"its first, not on {period[0]:%Y-%m-%d} to {period[1]:%Y-%m-%d}."
            )
        workspace = future_home(workspace, period[1])
    progress("reading every feature as known then")
    data = read_leak_data(workspace.settings, problem, workspace.lake, windows, model, variants)
    if unknown := sorted(set(only) - set(data.names)):
        raise HindcastError(f"There is no leak variant {', '.join(unknown)}; there are {', '.join(data.names)}.")
    return _measure(data, windows, most_rows, [called for called in data.names if called in only or not only], progress)


def model_of(settings: Settings, problem: Problem) -> Model:
    """The champion's family and parameters; before the first one, the first candidate's."""
    champion = current(settings)
    if champion is None:
        return Model(problem.candidates[0], problem.candidates[0].parameters)
    metadata = json.loads(read_package(champion_folder(settings))[METADATA])
    return Model(Candidate(name=metadata["candidate"], model=metadata["model"]), metadata["parameters"])


def _measure(
    data: LeakData, windows: Windows, most_rows: int, names: Sequence[str], progress: Callable[[str], None]
) -> LeakReport:
    task = problem_task(data.problem)
    trials = [data.trial(called) for called in names]  # all of them first: a mistake in SQL is found before the fits
    clean = data.trial_without_leak()
    with fitting_pool() as pool:
        progress(f"fitting {data.model.candidate.name} to at most {most_rows:,} rows, without any leak")
        args = (clean, clean.naive, _rows(clean.naive, "train"), [_test(clean.naive)], most_rows)
        (honest,) = pool.submit(_score, *args).result()

        def run(trial: Trial) -> Outcome:
            try:
                outcome = _outcome(trial, honest, windows, most_rows)
            except HindcastError as error:
                raise HindcastError(f"Leak variant {trial.name}: {error}") from error
            figures = outcome.offline[task.area], outcome.served[task.area]
            progress("{}: {:.3f} offline, {:.3f} when served".format(trial.name, *figures))
            return outcome

        outcomes = list(pool.map(run, trials))
    trained = int((data.honest[SPLIT] == "train").sum())
    return LeakReport(
        problem=data.problem.name,
        question=data.problem.question,
        model={
            "name": data.model.candidate.name,
            "family": data.model.candidate.model,
            "parameters": data.model.parameters,
        },
        snapshot=data.snapshot,
        windows={split: (start.isoformat(), end.isoformat()) for split, (start, end) in windows.items()},
        rows={"train": trained, "test": len(honest.labels), "fitted": min(trained, most_rows)},
        area=task.area,
        shown=data.problem.metrics.primary,
        honest=task.measure(honest.labels, honest.said),
        checks=_alarms(clean, clean.naive, data.features, honest, windows),
        variants=tuple(sorted(outcomes, key=lambda outcome: -outcome.gap["difference"])),
    )


def _outcome(trial: Trial, honest: Scored, windows: Windows, most_rows: int) -> Outcome:
    learn, tested, asked = _rows(trial.naive, "train"), _test(trial.naive), _test(trial.served)
    by_time, served = honest, honest
    if trial.changed or trial.alone:
        by_time, served = _score(trial, trial.naive, learn, [tested, asked], most_rows)
    without = _score(trial, trial.served, learn, [asked], most_rows)[0] if trial.alone else honest
    offline, dealt = by_time, trial.naive
    if trial.test_share is not None:
        dealt = _split_at_random(trial)
        (offline,) = _score(trial, dealt, _rows(dealt, "train"), [_test(dealt)], most_rows)
    looked_at = trial.features if trial.alone else trial.changed
    task = problem_task(trial.problem)
    return Outcome(
        trial.name,
        trial.description,
        trial.changed,
        task.measure(offline.labels, offline.said),
        task.measure(by_time.labels, by_time.said) if trial.test_share is not None else None,
        task.measure(served.labels, served.said),
        task.measure(without.labels, without.said),
        compare_areas(task, offline, served, trial.problem.budget.seed),
        _alarms(trial, dealt, looked_at, offline, windows),
    )


def _rows(frame: pl.DataFrame, split: str) -> Rows:
    return (frame[SPLIT] == split).arg_true().to_numpy().astype(np.int64)


def _test(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col(SPLIT) == "test")


def _split_at_random(trial: Trial) -> pl.DataFrame:
    """All rows of a trial, each in `train` or `test` by chance (seeded)."""
    order = np.random.default_rng(trial.problem.budget.seed).permutation(trial.naive.height)
    held = order < round(trial.naive.height * (trial.test_share or 0))
    return trial.naive.with_columns(pl.Series(SPLIT, np.where(held, "test", "train")))


def _score(
    trial: Trial, frame: pl.DataFrame, learn: Rows, asked: Sequence[pl.DataFrame], most_rows: int
) -> list[Scored]:
    """What the trial's model, fitted to rows of a frame, says about others."""
    problem, task = trial.problem, problem_task(trial.problem)
    learned = frame[spread(learn, most_rows)]
    for rows, purpose in ((learned, "to learn from"), *((rows, "to be tested on") for rows in asked)):
        task.check_variety(labels_of(problem, rows), f"What it has {purpose}", learned_from=rows is learned)
    features = find_features(learned.with_columns(pl.lit("train").alias(SPLIT)), trial.features)
    matrix, labels = encode(columns(learned, features), features), labels_of(problem, learned)
    estimator = fit(task, trial.model.candidate, trial.model.parameters, features, matrix, labels, problem.budget.seed)
    return [
        Scored(
            labels_of(problem, rows),
            task.predict(estimator, encode(columns(rows, features), features)),
            rows[problem.prediction_time.column].to_numpy(),
        )
        for rows in asked
    ]


def _alarms(
    trial: Trial, dealt: pl.DataFrame, looked_at: Sequence[str], offline: Scored, windows: Windows
) -> tuple[Check, ...]:
    """What the alarms of `leakage` say about a training set as dealt, and about its model."""
    problem, task = trial.problem, problem_task(trial.problem)
    area = task.measure(offline.labels, offline.said)[task.ordering]
    rows, limit = dealt.filter(pl.col(SPLIT).is_not_null()), problem.leakage.max_roc_auc
    return (
        check_features(problem, rows, looked_at),
        check_null_patterns(problem, rows, looked_at),
        check_known_at(problem, rows.filter(pl.col(SPLIT) == "train"), windows),
        Check("model_roc_auc", area, limit, area <= limit, f"{trial.name}, offline"),
    )
