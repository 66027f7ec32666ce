"""Folds in time, draws, and fits that are the same each time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.package.model import Feature
from hindcast.problem import Candidate
from hindcast.tasks import find_task
from hindcast.training.search import (
    Candidates,
    draw_parameters,
    fit,
    shown_search,
    spread,
    time_folds,
    train,
)
from hindcast.training.training_data import find_features, split_rows
from tests.made_up_problem import FEATURES, parcels_data, parcels_problem

BINARY = find_task("binary")


def days(*numbers: int) -> Any:
    return np.datetime64("2024-01-01") + np.array(numbers, dtype="timedelta64[D]")


def test_a_fold_learns_only_labels_that_were_known_when_it_is_judged() -> None:
    asked, known = days(0, 1, 2, 3, 4, 5), days(1, 9, 3, 4, 5, 6)
    (first, second) = time_folds(asked, known, 2)
    # Cuts at the third and the fifth row; row 1 was known only on day 9, row 3 on the day of the cut.
    assert [list(rows) for rows in first] == [[0], [2, 3]]
    assert [list(rows) for rows in second] == [[0, 2, 3], [4, 5]]


def test_folds_keep_what_was_asked_at_one_instant_together() -> None:
    asked = days(0, 0, 0, 1, 1, 2, 2, 2, 3)  # cut at the fourth and the seventh row: days 1 and 2
    (first, second) = time_folds(asked, asked, 2)
    assert [list(rows) for rows in first] == [[0, 1, 2], [3, 4]]
    assert [list(rows) for rows in second] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_fold_needs_both_labels() -> None:
    frame = parcels_data().frame
    half = frame.with_columns(late=pl.when(pl.col("asked_at") < pl.datetime(2024, 1, 25)).then(0).otherwise("late"))
    with pytest.raises(HindcastError, match=r"Fold 1 of 2 \(budget\.folds\) has \d+ rows with 1 different labels"):
        train(parcels_problem(), parcels_data(half), FEATURES)


def test_too_few_rows_for_the_folds_are_an_error() -> None:
    with pytest.raises(HindcastError, match="2 rows are too few for 3 folds"):
        time_folds(days(0, 1), days(5, 6), 3)


def test_a_part_of_the_rows_is_spread_over_all_of_them() -> None:
    assert list(spread(np.arange(10), 5)) == [0, 2, 4, 6, 8]
    assert list(spread(np.arange(3), 5)) == [0, 1, 2]


def test_draws_lie_in_the_space_and_depend_on_nothing_else() -> None:
    space = {"rate": {"low": 0.01, "high": 1.0, "log": True}, "leaves": {"low": 4, "high": 6, "integer": True}}
    one = Candidate(name="one", model="hist_gradient_boosting", parameters={"max_iter": 5}, search=space | {"x": [1]})
    draws = draw_parameters(one, 20, 7)
    assert draws == draw_parameters(one, 20, 7)
    assert draws[:5] == draw_parameters(one, 5, 7)
    assert draws != draw_parameters(one.model_copy(update={"name": "other"}), 20, 7)
    assert all(0.01 <= draw["rate"] <= 1 and draw["leaves"] in (4, 5, 6) and draw["x"] == 1 for draw in draws)
    assert np.median([draw["rate"] for draw in draws]) < 0.4  # a tenth in the middle, not a half


def test_a_candidate_without_a_space_is_tried_once() -> None:
    plain = Candidate(name="plain", model="logistic_regression", parameters={"C": 0.5})
    assert draw_parameters(plain, 20, 7) == [{"C": 0.5}]


def test_kinds_follow_from_types_and_categories_from_the_training_window() -> None:
    frame = pl.DataFrame(
        {"split": ["train", "train", "test"], "n": [1, 2, 3], "k": ["b", "a", "c"], "when": [None] * 3}
    )
    assert find_features(frame, ["n", "k"]) == (Feature("n", "numeric"), Feature("k", "categorical", ("a", "b")))
    with pytest.raises(HindcastError, match="no column for the feature x"):
        find_features(frame, ["x"])
    with pytest.raises(HindcastError, match="feature when is Datetime"):
        find_features(frame.with_columns(pl.col("when").cast(pl.Datetime("us"))), ["when"])


def test_training_twice_gives_the_same_models_and_scores(tmp_path: Path) -> None:
    problem, data = parcels_problem(), parcels_data()
    first, second = train(problem, data, FEATURES), train(problem, parcels_data(), FEATURES)
    matrix = split_rows(problem, data.frame, first.features, "test").matrix
    for one, other in zip(first.fitted, second.fitted, strict=True):
        assert (one.parameters, one.draws) == (other.parameters, other.draws)
        np.testing.assert_array_equal(BINARY.predict(one.estimator, matrix), BINARY.predict(other.estimator, matrix))
    first.save(tmp_path / "candidates.joblib")
    assert Candidates.load(tmp_path / "candidates.joblib").training_hash == second.training_hash


def test_the_best_draw_is_the_one_with_the_lowest_loss() -> None:
    found = train(parcels_problem(), parcels_data(), FEATURES)
    for fitted in found.fitted:
        assert fitted.parameters == min(fitted.draws, key=lambda draw: draw.score).parameters
        assert len(fitted.draws) == 2 and all(len(draw.scores) == 2 for draw in fitted.draws)
    assert shown_search(found, "log_loss").count("(best)") >= 2


def test_rows_of_other_windows_teach_nothing() -> None:
    problem, data = parcels_problem(), parcels_data()
    frame = data.frame.with_columns(
        late=pl.when(pl.col("split") == "train").then("late").otherwise(1 - pl.col("late")),
        weight=pl.when(pl.col("split") == "train").then("weight").otherwise(0.0),
    )
    one, other = train(problem, data, FEATURES), train(problem, parcels_data(frame), FEATURES)
    assert [fitted.draws for fitted in one.fitted] == [fitted.draws for fitted in other.fitted]


def test_mistakes_in_the_problem_file_are_named() -> None:
    data = parcels_data()
    wrong = {"name": "wrong", "model": "logistic_regression", "parameters": {"depth": 3}}
    with pytest.raises(HindcastError, match=r"candidates\.wrong: .*depth"):
        train(parcels_problem(candidates=[wrong]), data, FEATURES)
    features = find_features(data.frame, FEATURES)
    trees = Candidate(name="trees", model="hist_gradient_boosting")
    with pytest.raises(HindcastError, match=r"candidates\.trees: categorical_features can't be exported"):
        matrix = np.zeros((2, 4), dtype=np.float32)
        fit(BINARY, trees, {"categorical_features": [2]}, features, matrix, np.array([0, 1]), 7)
    ridge = Candidate(name="straight", model="ridge")
    with pytest.raises(HindcastError, match=r"candidates\.straight: There is no model 'ridge' for the task binary"):
        fit(BINARY, ridge, {}, features, np.zeros((2, 4), dtype=np.float32), np.array([0, 1]), 7)
    with pytest.raises(HindcastError, match="train window has 0 rows"):
        split_rows(parcels_problem(), data.frame.filter(pl.col("split") == "test"), features, "train")


def test_a_linear_model_takes_a_gap_in_a_column_that_had_none() -> None:
    features = (Feature("n", "numeric"), Feature("k", "categorical", ("a", "b")))
    matrix = np.array([[0, 0], [1, 1], [2, 0], [3, 1]], dtype=np.float32)
    candidate = Candidate(name="linear", model="logistic_regression")
    fitted = fit(BINARY, candidate, {}, features, matrix, np.array([0, 0, 1, 1]), 7)
    gaps = np.array([[np.nan, np.nan]], dtype=np.float32)
    assert BINARY.predict(fitted, gaps)[:, 0] == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("name", ["probability", "label", "prediction_time"])
def test_a_feature_that_is_called_like_a_column_of_the_reports_is_refused(name: str) -> None:
    data = parcels_data()
    data = replace(data, frame=data.frame.rename({"weight": name}))
    with pytest.raises(HindcastError, match=rf"feature service parcels: the feature {name} is called like a column"):
        train(parcels_problem(), data, [name, *FEATURES[1:]])
