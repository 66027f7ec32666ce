"""Distances, bins and blocks, against values worked out by hand."""

import numpy as np
import pytest

from hindcast.monitoring.drift import (
    bin_levels,
    bin_numbers,
    blocks,
    distance,
    jensen_shannon,
    standard_score,
)

HOUR = np.timedelta64(1, "h")


def hours(start: str, count: int) -> np.ndarray:
    return np.datetime64(start, "us") + np.arange(count) * HOUR


def test_jensen_shannon_by_hand() -> None:
    assert jensen_shannon(np.array([3, 5]), np.array([6, 10])) == 0.0
    assert jensen_shannon(np.array([1, 0]), np.array([0, 1])) == 1.0
    # p = (1/2, 1/2), q = (1, 0), middle = (3/4, 1/4): half of 0.2075 plus half of 0.4150.
    assert jensen_shannon(np.array([1, 1]), np.array([1, 0])) == pytest.approx(np.sqrt(0.3112781))


def test_jensen_shannon_is_scipys() -> None:
    from scipy.spatial.distance import jensenshannon

    random = np.random.default_rng(1)
    first, second = random.integers(0, 50, (2, 12))
    assert jensen_shannon(first, second) == pytest.approx(jensenshannon(first, second, base=2))


def test_few_values_keep_a_bin_each_and_missing_has_its_own() -> None:
    reference, current = bin_numbers(np.array([0.0, 1.0, 1.0, np.nan]), np.array([np.nan, 0.0, 2.0, -1.0]))
    # 0 and what is below, 1, above, missing
    assert reference.tolist() == [0, 1, 1, 3]
    assert current.tolist() == [3, 0, 2, 0]


def test_a_column_that_is_mostly_zero_keeps_its_zeros_apart() -> None:
    column = np.concatenate([np.zeros(990), np.linspace(0.1, 1, 100)])
    numbers, _ = bin_numbers(column, column)
    assert set(numbers[:990]) == {0}
    assert 0 not in numbers[990:]


def test_many_values_fall_into_tenths() -> None:
    column = np.arange(1, 1001, dtype=float)
    numbers, _ = bin_numbers(column, column)
    assert np.bincount(numbers).tolist() == [100] * 10


def test_ten_values_keep_a_bin_each() -> None:
    column = np.append(np.zeros(91), np.arange(1.0, 10.0))
    numbers, _ = bin_numbers(column, column)
    assert np.bincount(numbers).tolist() == [91, *[1] * 9]


def test_a_column_without_any_value_is_one_bin() -> None:
    reference, current = bin_numbers(np.array([np.nan, np.nan]), np.array([np.nan, 7.0]))
    assert reference.tolist() == [1, 1]
    assert current.tolist() == [1, 0]


def test_a_level_that_the_reference_never_saw_is_a_bin() -> None:
    reference, current = bin_levels(["a", "b", None], ["c", "a", None])
    assert reference.tolist() == [0, 1, 2]
    assert current.tolist() == [3, 0, 2]


def test_blocks_are_as_long_as_the_window_and_begin_at_its_time_of_day() -> None:
    reference = hours("2020-01-01T00", 30 * 24)
    current = hours("2020-02-03T06", 12)
    parts = blocks(reference, current, count=5, seed=1)
    assert [len(rows) for rows in parts] == [12] * 5
    assert all(reference[rows[0]].astype("datetime64[h]").astype(int) % 24 == 6 for rows in parts)
    first, last = reference[parts[0][0]], reference[parts[-1][-1]]
    assert first == np.datetime64("2020-01-01T06")
    assert last > np.datetime64("2020-01-29T06")


def test_blocks_are_thinned_to_the_windows_rows_in_the_same_way_each_time() -> None:
    reference, current = hours("2020-01-01T00", 480), hours("2020-02-01T00", 48)[::4]
    parts = blocks(reference, current, count=6, seed=3)
    assert [len(rows) for rows in parts] == [12] * 6
    assert all((np.diff(rows) > 0).all() for rows in parts)
    again = blocks(reference, current, count=6, seed=3)
    assert [rows.tolist() for rows in again] == [rows.tolist() for rows in parts]


def test_a_window_longer_than_the_reference_is_compared_with_halves() -> None:
    reference, current = hours("2020-01-01T00", 48), hours("2020-02-01T00", 400)
    parts = blocks(reference, current, count=3, seed=1)
    assert {len(rows) for rows in parts} <= {23, 24, 25}


def test_like_distributions_drift_about_as_rarely_as_blocks_do_and_shifted_ones_do() -> None:
    """A new block exceeds the 0.95 quantile of 12 others in about 12 of 100 cases; more often would be an error."""
    random = np.random.default_rng(7)
    reference_times, current_times = hours("2020-01-01T00", 2400), hours("2020-05-01T00", 200)
    parts = blocks(reference_times, current_times, count=12, seed=1)

    def drifted(shift: float) -> bool:
        numbers = bin_numbers(random.normal(size=2400), random.normal(shift, size=200))
        return distance("x", *numbers, parts, 0.95).drifted

    assert np.mean([drifted(0.0) for _ in range(400)]) == pytest.approx(0.12, abs=0.06)
    assert np.mean([drifted(1.0) for _ in range(20)]) == 1.0


def test_a_reference_that_varies_by_itself_allows_more() -> None:
    """Each day lies elsewhere: a day that lies as far off as they do among themselves hasn't drifted."""
    random = np.random.default_rng(5)
    levels = random.normal(size=40)
    times = hours("2020-01-01T00", 41 * 24)
    values = random.normal(np.append(levels, 0.5).repeat(24), 0.3)
    reference, current = values[: 40 * 24], values[40 * 24 :]
    parts = blocks(times[: 40 * 24], times[40 * 24 :], count=12, seed=1)
    wild = distance("x", *bin_numbers(reference, current), parts, 0.95)
    calm = distance("x", *bin_numbers(random.normal(size=40 * 24), current), parts, 0.95)
    assert not wild.drifted
    assert calm.drifted
    assert wild.threshold > calm.threshold


def test_standard_score_uses_the_sample_deviation() -> None:
    assert standard_score(4.0, [1.0, 2.0, 3.0]) == 2.0
    assert standard_score(1.0, [1.0, 1.0]) == 0.0
    assert standard_score(1.1, [1.0, 1.0]) == np.inf


def test_blocks_reach_from_the_first_row_to_the_last() -> None:
    parts = blocks(hours("2020-01-01T00", 10), hours("2020-02-01T00", 5), count=2, seed=1)
    assert [rows.tolist() for rows in parts] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_stretches_that_lie_a_day_apart_begin_at_the_current_periods_time_of_day() -> None:
    parts = blocks(hours("2020-01-01T00", 36), hours("2020-02-01T06", 12), count=2, seed=1)
    assert [rows.tolist() for rows in parts] == [list(range(6, 18))] * 2  # the second would end behind the reference


def test_a_stretch_may_end_with_the_references_last_row() -> None:
    parts = blocks(hours("2020-01-01T00", 42), hours("2020-02-01T06", 12), count=2, seed=1)
    assert [rows.tolist() for rows in parts] == [list(range(6, 18)), list(range(30, 42))]


def test_a_block_that_is_the_whole_reference_says_nothing_and_without_any_nothing_drifts() -> None:
    numbers = np.array([0, 0, 1, 1])
    for parts in ([], [np.arange(4)]):
        found = distance("x", numbers, np.array([2, 2]), parts, 0.95)
        assert (found.distance, found.threshold, found.drifted) == (1.0, 1.0, False)


def test_a_score_is_in_standard_deviations() -> None:
    assert standard_score(12.0, [0.0, 4.0, 8.0]) == 2.0
    assert standard_score(0.9, [1.0, 1.0]) == -np.inf


def test_a_score_may_be_counted_from_another_centre_than_the_blocks_mean() -> None:
    assert standard_score(2.0, [0.0, 4.0, 8.0], centre=6.0) == -1.0
    assert standard_score(0.9, [1.0, 1.0], centre=0.9) == 0.0
    assert standard_score(1.0, [1.0, 1.0], centre=0.9) == np.inf
