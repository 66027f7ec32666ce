"""Fits the candidates of a problem file: time-ordered folds, a small seeded search, a refit on the whole window.

How good they are outside the training window is measured in `evaluation`; how they leave Python is in `package`.
"""

import os
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.artefacts import read_joblib, write_joblib
from hindcast.errors import HindcastError
from hindcast.package.model import Feature, Matrix
from hindcast.pages import markdown_table
from hindcast.problem import Candidate, Problem, SearchRange
from hindcast.tasks import problem_task
from hindcast.tasks.task import DIGITS, Labels, Task
from hindcast.training.training_data import Rows, TrainingData, find_features, split_rows
from hindcast.training.training_set import content_hash

_ABSENT = 1e30  # stands for a missing number inside the graph; no feature comes near it


@dataclass(frozen=True)
class Draw:
    """One point of the search space and what it was worth.

    Attributes:
        parameters: As scikit-learn names them, the fixed ones included.
        scores: The primary metric on each fold, oldest first.
    """

    parameters: dict[str, Any]
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean of the primary metric over the folds."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Fitted:
    """A candidate after the search, fitted on the whole training window.

    Attributes:
        name: As the problem file names it.
        model: Its family.
        parameters: The best draw's.
        draws: All of them, in the order drawn.
        estimator: A scikit-learn pipeline from the matrix to what the task predicts.
        second: What the task fits beside it (`Task.second_model`).
        seconds: Of one core, for search and refit.
    """

    name: str
    model: str
    parameters: dict[str, Any]
    draws: tuple[Draw, ...]
    estimator: Any
    seconds: float
    second: Any = None


@dataclass(frozen=True)
class Candidates:
    """What training hands over to evaluation and packaging, within one home.

    Attributes:
        snapshot: Of the lake that the training set was read at.
        training_hash: Of the training set's content (`training_set.content_hash`).
        features: What every candidate takes, categories as seen in the training window.
        fitted: In the order of the problem file.
    """

    snapshot: int
    training_hash: str
    features: tuple[Feature, ...]
    fitted: tuple[Fitted, ...]

    def save(self, path: Path) -> None:
        """Writes a pickle: for the next step on this machine, never for a service."""
        write_joblib(path, self)

    @classmethod
    def load(cls, path: Path) -> "Candidates":
        """Raises:
        HindcastError: Nothing has been trained in this home yet.
        """
        found: Candidates | None = read_joblib(path)
        if found is None:
            raise HindcastError(f"No candidates at {path} yet: materialise `candidates` first.")
        return found


def train(problem: Problem, data: TrainingData, feature_names: Sequence[str]) -> Candidates:
    """Searches and fits every candidate.

    Args:
        problem: Candidates, budget and primary metric.
        data: The training set; only the rows of `train` are looked at.
        feature_names: In the order of the feature service.

    Raises:
        HindcastError: A parameter doesn't exist, there are too few rows, or a feature is called like a column that
            monitoring adds.
    """
    reserved = {*problem_task(problem).outputs, "label", "prediction_time"}
    if clashing := sorted(reserved.intersection(feature_names)):
        raise HindcastError(
            f"feature service {problem.feature_service}: the feature {', '.join(clashing)} is called like a column of "
            "Hindcast's own reports; rename it in the feature repository."
        )
    features = find_features(data.frame, feature_names)
    fitted = _search(problem, features, split_rows(problem, data.frame, features, "train"))
    named = content_hash(data.frame.sort(problem.entity.key))
    return Candidates(data.snapshot, named, features, fitted)


def time_folds(
    asked_at: NDArray[np.datetime64], known_at: NDArray[np.datetime64], folds: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Expanding folds: each is judged on the rows that follow those it learns from.

    Args:
        asked_at: Prediction times, ascending, shape (n,).
        known_at: When the labels became known, shape (n,).
        folds: How many. Time is cut at `folds` instants so that the pieces hold equally many rows; fold i learns
            from all rows that were asked for, and whose label was known, before cut i, and is judged on the piece
            after it.

    Returns:
        Row numbers to learn from and to be judged on, per fold.

    Raises:
        HindcastError: A fold has nothing to learn from or to be judged on.
    """
    rows = len(asked_at)
    cuts = [asked_at[rows * number // (folds + 1)] for number in range(1, folds + 1)]
    found = []
    for number, cut in enumerate(cuts):
        end = cuts[number + 1] if number + 1 < folds else None
        learn = np.flatnonzero((asked_at < cut) & (known_at <= cut))
        judge = np.flatnonzero((asked_at >= cut) & (asked_at < end if end is not None else True))
        if not len(learn) or not len(judge):
            raise HindcastError(f"{rows} rows are too few for {folds} folds in time; lower budget.folds.")
        found.append((learn, judge))
    return found


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly over their order: many days with few rows teach more than few full ones."""
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]


def draw_parameters(candidate: Candidate, draws: int, seed: int) -> list[dict[str, Any]]:
    """Points of a candidate's search space. One (the fixed parameters alone) where it has none.

    Each candidate draws from a sequence of its own, so that another one's space doesn't change its draws.
    """
    random = np.random.default_rng([seed, zlib.crc32(candidate.name.encode())])
    found = []
    for _ in range(draws if candidate.search else 1):
        drawn = {name: _draw(candidate.search[name], random) for name in sorted(candidate.search)}
        found.append(dict(candidate.parameters) | drawn)
    return found


def _draw(space: SearchRange | list[Any], random: np.random.Generator) -> Any:
    if isinstance(space, list):
        return space[int(random.integers(len(space)))]
    if space.log:
        value = float(np.exp(random.uniform(np.log(space.low), np.log(space.high))))
    else:
        value = float(random.uniform(space.low, space.high))
    return round(value) if space.integer else float(f"{value:.4g}")


def _search(problem: Problem, features: Sequence[Feature], rows: Rows) -> tuple[Fitted, ...]:
    """Judges every draw of every candidate on every fold, then fits each candidate's best draw on all rows."""
    task, budget = problem_task(problem), problem.budget
    primary = task.metric(problem.metrics.primary)
    folds = time_folds(rows.asked_at, rows.known_at, budget.folds)
    for number, parts in enumerate(folds, 1):
        for part in parts:
            task.check_variety(rows.labels[part], f"Fold {number} of {budget.folds} (budget.folds)")
    drawn = {each.name: draw_parameters(each, budget.draws, budget.seed) for each in problem.candidates}

    def judge(
        job: tuple[Candidate, dict[str, Any], tuple[NDArray[np.int64], NDArray[np.int64]]],
    ) -> tuple[float, float]:
        candidate, parameters, (learn, held_out) = job
        began = time.thread_time()
        some, judged = spread(learn, budget.max_rows), spread(held_out, budget.max_rows)
        estimator = fit(task, candidate, parameters, features, rows.matrix[some], rows.labels[some], budget.seed)
        score = primary.compute(rows.labels[judged], task.predict(estimator, rows.matrix[judged]))
        return round(score, DIGITS), time.thread_time() - began

    def refit(job: tuple[Candidate, tuple[Draw, ...], float]) -> Fitted:
        candidate, draws, seconds = job
        began = time.thread_time()
        best = min(draws, key=lambda draw: primary.loss(draw.score))
        estimator = fit(task, candidate, best.parameters, features, rows.matrix, rows.labels, budget.seed)
        some = spread(np.arange(len(rows.matrix)), budget.max_rows)
        second = task.second_model(estimator, _without_empty_columns(rows.matrix[some]), rows.labels[some], budget.seed)
        seconds += time.thread_time() - began
        return Fitted(candidate.name, candidate.model, best.parameters, draws, estimator, seconds, second)

    with fitting_pool() as pool:
        jobs = [
            (candidate, parameters, fold)
            for candidate in problem.candidates
            for parameters in drawn[candidate.name]
            for fold in folds
        ]
        judged = iter(list(pool.map(judge, jobs)))
        refits = []
        for candidate in problem.candidates:
            results = [[next(judged) for _ in folds] for _ in drawn[candidate.name]]
            draws = tuple(
                Draw(parameters, tuple(score for score, _ in result))
                for parameters, result in zip(drawn[candidate.name], results, strict=True)
            )
            refits.append((candidate, draws, sum(seconds for result in results for _, seconds in result)))
        return tuple(pool.map(refit, refits))


@contextmanager
def fitting_pool() -> Iterator[ThreadPoolExecutor]:
    """Workers for fits side by side, each on one thread.

    Threads inside a fit wait for one another, and on a machine that has other work as well they wait so long that a
    search takes ten times as long. Linear algebra on one thread always adds up in the same order.
    """
    import sklearn.ensemble  # noqa: F401 - brings OpenMP, which must be there to be limited
    from threadpoolctl import threadpool_limits

    def one_thread() -> None:
        threadpool_limits(1, user_api="openmp")  # OpenMP's limit is each worker's own, that of linear algebra isn't

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count(), initializer=one_thread) as pool:
        yield pool


def fit(
    task: Task,
    candidate: Candidate,
    parameters: dict[str, Any],
    features: Sequence[Feature],
    matrix: Matrix,
    labels: Labels,
    seed: int,
) -> Any:
    """One fitted pipeline.

    Raises:
        HindcastError: The task has no such family, or a parameter doesn't exist or has a value that scikit-learn
            refuses.
    """
    try:
        estimator = _pipeline(task, candidate, parameters, features, seed)
        return estimator.fit(_without_empty_columns(matrix), task.target(labels))
    except (HindcastError, TypeError, ValueError) as error:
        raise HindcastError(f"candidates.{candidate.name}: {error}") from error


def _without_empty_columns(matrix: Matrix) -> Matrix:
    """0 for all of a column that has no value at all, as a history in the first fold: trees refuse it."""
    empty = np.isnan(matrix).all(axis=0)
    return np.where(empty, np.float32(0), matrix) if empty.any() else matrix


def _pipeline(
    task: Task, candidate: Candidate, parameters: dict[str, Any], features: Sequence[Feature], seed: int
) -> Any:
    from sklearn.pipeline import make_pipeline

    model = task.family(candidate.model)(**{"random_state": seed} | parameters)
    if candidate.model == "hist_gradient_boosting":
        if parameters.get("categorical_features") is not None:
            raise ValueError("categorical_features can't be exported rightly; categories are codes already")
        return make_pipeline(model)  # codes and NaN as they are: trees split both without help
    return make_pipeline(_linear_columns(features), model)


def _linear_columns(features: Sequence[Feature]) -> Any:
    """What a linear model needs: medians for gaps and a mark for each, one scale, a column per category."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Binarizer, OneHotEncoder, StandardScaler

    def filled(value: float) -> Any:
        return SimpleImputer(strategy="constant", fill_value=value, keep_empty_features=True)

    numbers = [position for position, feature in enumerate(features) if feature.kind == "numeric"]
    median = SimpleImputer(strategy="median", keep_empty_features=True)
    parts: list[tuple[Any, list[int]]] = []
    if numbers:
        parts.append((make_pipeline(median, StandardScaler()), numbers))
        # scikit-learn's own MissingIndicator has no ONNX form; this says the same in steps that have one.
        parts.append((make_pipeline(filled(_ABSENT), Binarizer(threshold=_ABSENT / 10)), numbers))
    for position, feature in enumerate(features):
        if feature.kind == "categorical":
            codes = np.arange(-1, len(feature.categories), dtype=np.float32)  # -1: missing or never seen
            one_hot = OneHotEncoder(categories=[codes], handle_unknown="ignore", sparse_output=False, dtype=np.float32)
            parts.append((make_pipeline(filled(-1.0), one_hot), [position]))
    return make_column_transformer(*parts)


def shown_search(candidates: Candidates, primary: str) -> str:
    """A Markdown table of all draws, each with the primary metric's mean over the folds."""
    rows = [
        {
            "candidate": fitted.name + (" (best)" if draw.parameters == fitted.parameters else ""),
            primary: draw.score,
            "parameters": ", ".join(f"{name} {value}" for name, value in sorted(draw.parameters.items())),
        }
        for fitted in candidates.fitted
        for draw in fitted.draws
    ]
    return markdown_table(rows, ".5f")
