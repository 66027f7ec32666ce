"""Intervals around predictions: they hold what they promise, also with ties, few rows and gaps."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.tasks.intervals import Interval
from tests.fitted_tasks import FittedModel

VALUE = 100.0


def fitted(errors: NDArray[np.float64], residuals: NDArray[np.float64], coverage: float = 0.8) -> Interval:
    """Of rows that all have one value, an error that is expected of it, and the one that came."""
    values = np.full(len(errors), VALUE)
    return Interval.fit(values, errors, values + residuals, coverage)


def reached(found: Interval, errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the interval reaches from such a value."""
    low, high = found.bounds(np.full(len(errors), VALUE), errors)
    return low - VALUE, high - VALUE


def scatter(errors: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The more, and the more upwards, the larger the expected error."""
    return (1 + errors) * (np.random.default_rng(seed).exponential(size=len(errors)) - 0.3)


def test_the_tails_are_the_ranks_that_theory_asks_for() -> None:
    # 49 rows and coverage 0.8: the 5th smallest and the 5th largest, between which (45 - 5) / 50 of further rows lie.
    residuals = np.random.default_rng(1).permutation(np.arange(1.0, 50.0))
    found = fitted(np.ones(49), residuals)
    assert (found.centres, found.lower, found.upper) == ((1.0,), (5.0,), (45.0,))
    low, high = found.bounds(np.array([0.0, 1000.0]), np.array([1.0, 7.0]))
    assert (low.tolist(), high.tolist()) == ([5.0, 1005.0], [45.0, 1045.0])


@pytest.mark.parametrize("rows", [19, 30, 49, 120])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_a_further_row_is_held_as_often_as_promised(rows: int, coverage: float) -> None:
    random, held, draws = np.random.default_rng(7), 0, 4000
    for _ in range(draws):
        residuals = random.gumbel(size=rows + 1)  # lopsided
        low, high = reached(fitted(np.ones(rows), residuals[:rows], coverage), np.ones(1))
        held += int(low[0] <= residuals[rows] <= high[0])
    noise = 3 * np.sqrt(coverage * (1 - coverage) / draws)
    assert coverage - noise <= held / draws <= coverage + 2 / (rows + 1) + noise


def test_uncertain_rows_have_wider_intervals() -> None:
    random = np.random.default_rng(3)
    learned, later = random.uniform(0, 10, 5000), random.uniform(0, 10, 20000)
    found = fitted(learned, scatter(learned, 4))
    low, high = reached(found, later)
    residuals = scatter(later, 5)
    for begin in range(0, 10, 2):
        rows = (later >= begin) & (later < begin + 2)
        assert np.mean((low <= residuals) & (residuals <= high), where=rows) == pytest.approx(0.8, abs=0.03)
        assert np.mean(residuals < low, where=rows) == pytest.approx(0.1, abs=0.03)
    assert len(found.centres) == 12
    assert found.upper[11] - found.lower[11] > 4 * (found.upper[0] - found.lower[0])


def test_equal_errors_share_a_bin() -> None:
    errors = np.repeat([0.0, 1.0], [5000, 150])
    found = fitted(errors, errors * np.tile([-1.0, 2.0], 2575))
    assert (found.centres, found.lower, found.upper) == ((0.0, 1.0), (0.0, -1.0), (0.0, 2.0))
    assert fitted(np.zeros(5000), np.tile([-1.0, 1.0], 2500)).centres == (0.0,)
    few = np.repeat([0.0, 1.0], [5000, 99])  # too few for a bin of their own
    assert fitted(few, few).centres == (0.0,)


def test_between_bins_the_width_changes_without_a_jump() -> None:
    low, high = reached(Interval((0.0, 10.0), (-1.0, -3.0), (2.0, 12.0)), np.array([-5.0, 0.0, 5.0, 10.0, 99.0]))
    assert low.tolist() == [-1.0, -1.0, -2.0, -3.0, -3.0]
    assert high.tolist() == [2.0, 2.0, 7.0, 12.0, 12.0]


def test_equal_residuals_make_no_width_and_are_held() -> None:
    low, high = reached(fitted(np.arange(500.0), np.full(500, 2.0)), np.array([7.0]))
    assert (low.tolist(), high.tolist()) == ([2.0], [2.0])


def test_few_rows_give_their_range_and_fewer_an_error() -> None:
    found = fitted(np.ones(9), np.arange(9.0))
    assert (found.lower, found.upper) == ((0.0,), (8.0,))
    with pytest.raises(HindcastError, match=r"8 held-out rows .* take 9: lengthen the validation window"):
        fitted(np.ones(8), np.arange(8.0))
    with pytest.raises(HindcastError, match="take 19"):
        fitted(np.ones(9), np.arange(9.0), 0.9)


def test_rows_with_a_gap_are_left_out_and_a_gap_stays_one() -> None:
    errors, residuals = np.ones(11), np.arange(11.0)
    errors[9], residuals[10] = np.nan, np.nan
    found = fitted(errors, residuals)
    assert (found.lower, found.upper) == ((0.0,), (8.0,))
    low, high = found.bounds(np.array([np.nan, 1.0]), np.ones(2))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]
    assert high[1] == 9.0


def test_it_survives_json() -> None:
    errors = np.random.default_rng(3).uniform(0, 10, 1000)
    found = fitted(errors, scatter(errors, 4))
    assert Interval.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_second_model_tells_certain_rows_from_uncertain_ones() -> None:
    model = FittedModel.of("value", "ridge")
    heavy = np.nan_to_num(model.matrix[:, 0]) > 0
    labels = model.labels + np.random.default_rng(4).normal(size=len(heavy)) * np.where(heavy, 50, 1)
    second = model.task.second_model(model.fitted.estimator, model.matrix, labels, seed=7)
    said = model.task.predict(model.fitted.estimator, model.matrix, second)
    errors = said[:, 2] - said[:, 0]
    assert errors == pytest.approx(said[:, 0] - said[:, 1])
    assert errors[heavy].mean() > 2 * errors[~heavy].mean()
