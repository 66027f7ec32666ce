"""Intervals around predictions: they hold what they promise, also with ties, few rows and gaps."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from hindcast.errors import HindcastError
from hindcast.tasks.intervals import Interval


def spread_around(predictions: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Labels that scatter the more, and the more upwards, the larger the prediction."""
    scatter = np.random.default_rng(seed).exponential(size=len(predictions)) - 0.3
    return predictions + (1 + predictions) * scatter


def test_the_tails_are_the_ranks_that_theory_asks_for() -> None:
    # 49 rows and coverage 0.8: the 5th smallest and the 5th largest, between which (45 - 5) / 50 of further rows lie.
    residuals = np.random.default_rng(1).permutation(np.arange(1.0, 50.0))
    found = Interval.fit(np.full(49, 100.0), 100.0 + residuals, 0.8)
    assert (found.centres, found.lower, found.upper) == ((100.0,), (5.0,), (45.0,))
    low, high = found.bounds(np.array([0.0, 1000.0]))
    assert (low.tolist(), high.tolist()) == ([5.0, 1005.0], [45.0, 1045.0])


@pytest.mark.parametrize("rows", [9, 30, 49, 120])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_a_further_row_is_held_as_often_as_promised(rows: int, coverage: float) -> None:
    if rows == 9 and coverage == 0.9:
        rows = 19
    random, held, draws = np.random.default_rng(7), 0, 4000
    for _ in range(draws):
        labels = random.gumbel(size=rows + 1)  # lopsided
        low, high = Interval.fit(np.zeros(rows), labels[:rows], coverage).bounds(np.zeros(1))
        held += int(low[0] <= labels[rows] <= high[0])
    noise = 3 * np.sqrt(coverage * (1 - coverage) / draws)
    assert coverage - noise <= held / draws <= coverage + 2 / (rows + 1) + noise


def test_each_size_of_prediction_has_its_own_width() -> None:
    random = np.random.default_rng(3)
    learned, later = random.uniform(0, 10, 5000), random.uniform(0, 10, 20000)
    found = Interval.fit(learned, spread_around(learned, 4), 0.8)
    low, high = found.bounds(later)
    labels = spread_around(later, 5)
    for begin in range(0, 10, 2):
        rows = (later >= begin) & (later < begin + 2)
        assert np.mean((low <= labels) & (labels <= high), where=rows) == pytest.approx(0.8, abs=0.03)
        assert np.mean(labels < low, where=rows) == pytest.approx(0.1, abs=0.03)
    assert len(found.centres) == 12
    assert found.upper[11] - found.lower[11] > 4 * (found.upper[0] - found.lower[0])


def test_equal_predictions_share_a_bin() -> None:
    predictions = np.repeat([0.0, 1.0], [5000, 150])
    found = Interval.fit(predictions, predictions * np.tile([0.0, 3.0], 2575), 0.8)
    assert (found.centres, found.lower, found.upper) == ((0.0, 1.0), (0.0, -1.0), (0.0, 2.0))
    assert Interval.fit(np.zeros(5000), np.tile([-1.0, 1.0], 2500), 0.8).centres == (0.0,)
    few = np.repeat([0.0, 1.0], [5000, 99])  # too few for a bin of their own
    assert Interval.fit(few, few, 0.8).centres == (0.0,)


def test_between_bins_the_width_changes_without_a_jump() -> None:
    found = Interval((0.0, 10.0), (-1.0, -3.0), (2.0, 12.0))
    low, high = found.bounds(np.array([-5.0, 0.0, 5.0, 10.0, 99.0]))
    assert low.tolist() == [-6.0, -1.0, 3.0, 7.0, 96.0]
    assert high.tolist() == [-3.0, 2.0, 12.0, 22.0, 111.0]


def test_equal_residuals_make_no_width_and_are_held() -> None:
    low, high = Interval.fit(np.arange(500.0), np.arange(500.0) + 2, 0.8).bounds(np.array([7.0]))
    assert (low.tolist(), high.tolist()) == ([9.0], [9.0])


def test_few_rows_give_their_range_and_fewer_an_error() -> None:
    labels = np.arange(9.0)
    found = Interval.fit(np.zeros(9), labels, 0.8)
    assert (found.lower, found.upper) == ((0.0,), (8.0,))
    with pytest.raises(HindcastError, match=r"8 held-out rows .* take 9: lengthen the validation window"):
        Interval.fit(np.zeros(8), labels[:8], 0.8)
    with pytest.raises(HindcastError, match="take 19"):
        Interval.fit(np.zeros(9), labels, 0.9)


def test_rows_with_a_gap_are_left_out_and_a_gap_stays_one() -> None:
    predictions, labels = np.zeros(11), np.arange(11.0)
    predictions[9], labels[10] = np.nan, np.nan
    found = Interval.fit(predictions, labels, 0.8)
    assert (found.lower, found.upper) == ((0.0,), (8.0,))
    low, high = found.bounds(np.array([np.nan, 1.0]))
    assert np.isnan(low[0])
    assert np.isnan(high[0])
    assert high[1] == 9.0


def test_it_survives_json() -> None:
    predictions = np.random.default_rng(3).uniform(0, 10, 1000)
    found = Interval.fit(predictions, spread_around(predictions, 4), 0.8)
    assert Interval.from_json(json.loads(json.dumps(found.to_json()))) == found
