"""Known leaks, planted one by one: each must raise its alarm, and honest data none."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hindcast.evaluation.leak_checks import (
    check_features,
    check_known_at,
    check_models,
    check_null_patterns,
    check_training_set,
    feature_roc_auc,
    null_patterns,
)
from tests.made_up_problem import FEATURES, WINDOWS, parcels, parcels_problem

PROBLEM = parcels_problem()


def alarms(frame: pl.DataFrame, features: list[str] = FEATURES) -> dict[str, str]:
    checks = check_training_set(PROBLEM, frame, features, WINDOWS)
    assert [check.name for check in checks] == [
        "single_feature_roc_auc",
        "null_pattern_label_rate",
        "known_at_violations",
    ]
    return {check.name: check.detail for check in checks if not check.holds}


def test_honest_data_raises_no_alarm() -> None:
    assert alarms(parcels()) == {}


def test_a_column_that_knows_how_late_it_was_is_caught() -> None:
    random = np.random.default_rng(3)
    frame = parcels()
    hours = frame["late"].to_numpy() * 5.0 + random.normal(scale=2.0, size=frame.height)
    found = alarms(frame.with_columns(hours_late=hours), [*FEATURES, "hours_late"])
    assert set(found) == {"single_feature_roc_auc"}
    assert found["single_feature_roc_auc"].startswith("highest: hours_late 0.9")


def test_a_column_that_is_missing_where_the_label_is_one_is_caught() -> None:
    # As with a carrier's scan that is only absent where the parcel was lost, and is of no use otherwise.
    frame = parcels().with_columns(lost=(pl.col("late") == 1) & (pl.int_range(pl.len()) % 10 == 0))
    frame = frame.with_columns(scan=pl.when(~pl.col("lost")).then(pl.int_range(pl.len()) % 7))
    found = alarms(frame, [*FEATURES, "scan"])
    assert set(found) == {"null_pattern_label_rate"}
    lost = frame["lost"].sum()
    assert found["null_pattern_label_rate"] == f"highest: {lost} rows with scan missing"


def test_a_gap_that_hides_among_honest_gaps_is_caught_by_what_else_is_missing() -> None:
    # Each of the two is missing elsewhere as well, both together only where the label is 1.
    number = pl.int_range(pl.len())
    frame = parcels().with_columns(
        lost=(pl.col("late") == 1) & (number % 10 == 0), one=number % 10 == 1, other=number % 10 == 2
    )
    frame = frame.with_columns(
        scan=pl.when(~pl.col("lost") & ~pl.col("one")).then(number % 7),
        seal=pl.when(~pl.col("lost") & ~pl.col("other")).then(number % 3),
    )
    found = alarms(frame, ["weight", "scan", "seal"])
    assert found == {"null_pattern_label_rate": f"highest: {frame['lost'].sum()} rows with exactly scan, seal missing"}


def test_a_rare_gap_is_not_judged() -> None:
    number = pl.int_range(pl.len())
    few = (pl.col("late") == 1) & (number < 60)
    frame = parcels().with_columns(scan=pl.when(~few).then(number % 7))
    assert 0 < frame["scan"].null_count() < PROBLEM.leakage.min_null_pattern_rows
    assert alarms(frame, ["weight", "scan"]) == {}


def test_labels_that_were_known_too_early_or_too_late_are_counted() -> None:
    frame = parcels()
    row = pl.int_range(pl.len())
    early = pl.col("asked_at") - timedelta(hours=1)
    frame = frame.with_columns(
        late_known_at=pl.when(row < 3)
        .then(early)
        .when((row >= 10) & (row < 15))
        .then(pl.lit(WINDOWS["train"][1].replace(tzinfo=None)) + timedelta(seconds=1))
        .when(row == 20)
        .then(None)
        .otherwise("late_known_at")
    )
    assert alarms(frame) == {
        "known_at_violations": "labels known before they were asked for: 3; known only after their window's end: 5; "
        "without a label, its instant or a window: 1"
    }


def test_a_model_that_is_too_good_is_caught() -> None:
    def entry(name: str, validation: float, test: float) -> dict[str, object]:
        return {"name": name, "validation": {"roc_auc": validation}, "test": {"roc_auc": test}}

    assert check_models(PROBLEM, [entry("a", 0.7, 0.8), entry("b", 0.9, 0.6)]).holds
    check = check_models(PROBLEM, [entry("a", 0.7, 0.8), entry("b", 0.9, 0.96)])
    assert (check.holds, check.value, check.limit, check.detail) == (False, 0.96, 0.95, "highest: b on test")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([float(n) for n in range(400)], id="rising"),
        pytest.param([-float(n) for n in range(400)], id="falling"),
        pytest.param([abs(n - 100.0) if n < 200 else 200.0 + n for n in range(400)], id="bent"),
        pytest.param(["yes" if n >= 200 else "no" for n in range(400)], id="category"),
        pytest.param([None if n >= 200 else 1.0 for n in range(400)], id="missing"),
    ],
)
def test_a_column_that_is_the_label_in_whatever_form_has_an_area_of_one(values: list[object]) -> None:
    labels = (np.arange(400) >= 200).astype(np.int64)
    assert feature_roc_auc(pl.Series(values), labels) == pytest.approx(1.0, abs=0.01)


def test_a_column_that_says_nothing_has_an_area_of_a_half() -> None:
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 20_000)
    assert feature_roc_auc(pl.Series(random.normal(size=20_000)), labels) == pytest.approx(0.5, abs=0.01)
    many = pl.Series([f"C{n}" for n in random.integers(0, 5000, 20_000)])  # as many categories as invite memorising
    assert feature_roc_auc(many, labels) == pytest.approx(0.5, abs=0.02)
    assert feature_roc_auc(pl.Series([None] * 20_000, dtype=pl.Float64), labels) == 0.5


def test_null_patterns_count_each_set_of_gaps() -> None:
    frame = pl.DataFrame({"y": [1, 0, 1, 0], "a": [None, None, 1.0, float("nan")], "b": [None, 1, 2, 3], "c": [1] * 4})
    y = frame["y"].to_numpy()
    found = null_patterns(frame, ["a", "b", "c"], {"y": y == 1})
    assert found == [
        {"missing": ["a"], "exactly": False, "rows": 3, "label_rate": pytest.approx(1 / 3), "event": "y"},
        {"missing": ["b"], "exactly": False, "rows": 1, "label_rate": 1.0, "event": "y"},
        {"missing": ["a"], "exactly": True, "rows": 2, "label_rate": 0.0, "event": "y"},
        {"missing": ["a", "b"], "exactly": True, "rows": 1, "label_rate": 1.0, "event": "y"},
    ]
    # Of several events, that counts which is the most frequent there.
    both = null_patterns(frame, ["a", "b", "c"], {"y": y == 1, "not y": y == 0})
    assert [(each["label_rate"], each["event"]) for each in both] == [
        (pytest.approx(2 / 3), "not y"), (1.0, "y"), (1.0, "not y"), (1.0, "y"),
    ]  # fmt: skip


# What a failed check says


def test_a_failed_check_names_value_limit_culprit_and_where_to_look() -> None:
    problem, frame = parcels_problem(), parcels()
    leaky = frame.with_columns(weight=pl.col("late").cast(pl.Float64))
    told = check_features(problem, leaky, FEATURES).message()
    assert told.startswith(
        "single_feature_roc_auc is 1 (limit 0.85): feature weight alone tells the label apart. Highest: weight 1.000, "
    )
    assert told.endswith(". Look at problems/parcels.yaml: leakage.max_feature_roc_auc.")


def test_a_gap_that_is_the_label_is_named_with_rows_and_an_example() -> None:
    problem, frame = parcels_problem(), parcels()
    gappy = frame.with_columns(weight=pl.when(pl.col("late") == 0).then("weight"))
    late = frame.filter(pl.col("late") == 1)
    told = check_null_patterns(problem, gappy, FEATURES).message()
    assert told.startswith(
        "null_pattern_label_rate is 1 (limit 0.99): where weight is missing, the label is 1 in nearly"
    )
    assert f"{late.height:,} rows, e.g. parcel_id {late['parcel_id'][0]}" in told
    assert told.endswith(". Look at problems/parcels.yaml: leakage.max_null_pattern_rate.")


def test_a_label_that_came_too_early_is_named() -> None:
    problem, frame = parcels_problem(), parcels()
    early = frame.with_columns(
        late_known_at=pl.when(pl.col("parcel_id") == frame["parcel_id"][7]).then("asked_at").otherwise("late_known_at")
    )
    check = check_known_at(problem, early, WINDOWS)
    assert check.message().startswith(
        f"known_at_violations is 1 (limit 0): 1 row, e.g. parcel_id {frame['parcel_id'][7]}. Labels known before"
    )


def test_a_model_that_is_too_good_is_named() -> None:
    scores = [{"name": "boosting", "validation": {"roc_auc": 0.8}, "test": {"roc_auc": 0.97}}]
    assert check_models(parcels_problem(), scores).message() == (
        "model_roc_auc is 0.97 (limit 0.95): candidate boosting is too good on test; one of its features knows the "
        "label. Highest: boosting on test. Look at problems/parcels.yaml: leakage.max_roc_auc."
    )
