"""Checks, comparisons with the champion, and verdicts that are kept."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.evaluation.evaluate import evaluate
from hindcast.evaluation.intervals import compare_losses
from hindcast.evaluation.leak_checks import Check
from hindcast.package.build import build
from hindcast.package.model import ServedModel
from hindcast.promotion.champion import promote
from hindcast.promotion.gate import (
    CHANGE,
    COMPARABLE,
    REFRESH,
    against_champion,
    bar_checks,
    champion_check,
    changes,
    evaluate_gate,
    judge,
    parity_check,
    shown_checks,
    smoke_check,
)
from hindcast.promotion.verdict import ALREADY, PROMOTED, REFUSED, UNDECIDED, keep, keep_decision, verdict_file
from hindcast.settings import Settings
from hindcast.tasks import find_task
from hindcast.tasks.binary import log_losses, roc_auc
from tests.feature_world import REPOSITORY
from tests.made_up_problem import parcels_data, parcels_problem, trained_parcels
from tests.served_rivers import LESS, SMALLER, Rivers, batch_problem, package, redeclare, trained
from tests.tiny_model import MADE, write_package

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD, BAD = Check("good", 1.0, 0.5, True), Check("bad", 0.1, 0.5, False)
PROBLEM = parcels_problem()
BINARY = find_task("binary")


def chosen(roc_auc: float | None, log_loss: float) -> dict[str, Any]:
    return {"test": {"roc_auc": roc_auc, "log_loss": log_loss}}


def history(roc_auc: float) -> dict[str, Any]:
    return {"historic_rate": {"test": {"roc_auc": roc_auc}}}


def test_every_check_must_hold() -> None:
    assert (PROMOTED, REFUSED, ALREADY) == ("promoted", "refused", "already champion")
    assert judge("v1", None, [GOOD, GOOD], NOON).verdict == PROMOTED
    refused = judge("v1", "v0", [GOOD, BAD], NOON)
    assert (refused.verdict, refused.promoted, refused.champion) == (REFUSED, False, "v0")
    again = judge("v1", "v1", [GOOD], NOON)
    assert (again.verdict, again.promoted) == (ALREADY, False)


def test_bars_hold_at_the_limit_and_the_gain_is_against_the_historic_rate() -> None:
    checks = {check.name: check for check in bar_checks(PROBLEM, chosen(0.6, 0.7), history(0.55))}
    assert list(checks) == ["test_roc_auc_at_least", "test_log_loss_at_most", "gain_over_baseline_at_least"]
    assert all(check.holds for check in checks.values())
    assert checks["gain_over_baseline_at_least"].value == pytest.approx(0.05)
    worse = [check.holds for check in bar_checks(PROBLEM, chosen(0.599, 0.701), history(0.56))]
    assert worse == [False, False, False]
    assert not bar_checks(PROBLEM, chosen(None, 0.6), history(0.5))[0].holds


def test_parity_has_one_limit() -> None:
    assert parity_check({"rows": 3, "max_difference": 1e-5}).holds
    assert not parity_check({"rows": 3, "max_difference": 1.1e-5}).holds


def test_the_smoke_test_holds_at_the_same_limit() -> None:
    assert [smoke_check(difference).holds for difference in (0.0, 1e-5, 1.1e-5)] == [True, True, False]


def compare(primary: str, labels: Any, challenger: Any, champion: Any, asked_at: Any, seed: int) -> dict[str, Any]:
    """As `compare_losses`, of probabilities of shape (n,)."""
    return compare_losses(BINARY, primary, labels, challenger[:, None], champion[:, None], asked_at, seed)


def ten_days(rows_per_day: int = 50) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(4)
    said = random.uniform(0.05, 0.95, rows_per_day * 10)
    labels = (random.random(len(said)) < said).astype(np.int64)
    day = np.repeat(np.arange(10), rows_per_day)
    return labels, said, np.datetime64("2024-05-01T06:00") + day.astype("timedelta64[D]")


def test_the_same_model_differs_by_nothing() -> None:
    labels, said, asked_at = ten_days()
    found = compare("log_loss", labels, said, said, asked_at, 7)
    assert found == {"difference": 0.0, "low": 0.0, "high": 0.0, "days": 10, "rows": 500}


@pytest.mark.parametrize("primary", ["log_loss", "brier", "roc_auc", "average_precision"])
def test_a_model_of_noise_is_worse_than_one_that_knows(primary: str) -> None:
    labels, said, asked_at = ten_days()
    noise = np.random.default_rng(5).uniform(0.05, 0.95, len(said))
    found = compare(primary, labels, noise, said, asked_at, 7)
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert not refresh(found).holds and not change(found).holds
    turned = compare(primary, labels, said, noise, asked_at, 7)
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert (turned["low"], turned["high"]) == pytest.approx((-found["high"], -found["low"]), abs=0.01)
    assert refresh(turned).holds and change(turned).holds


def differing_by(differences: Any) -> tuple[Any, Any, Any]:
    """Labels of 0, a challenger and a champion of 0.5, whose Brier losses differ by these."""
    losses = 0.25 + np.asarray(differences)
    return np.zeros(len(losses), dtype=np.int64), np.sqrt(losses), np.full(len(losses), 0.5)


def days(numbers: Any) -> Any:
    return np.datetime64("2024-05-01T23:30") + np.asarray(numbers).astype("timedelta64[D]")


def test_of_three_days_the_95_percent_interval_goes_from_the_best_to_the_worst() -> None:
    """All three draws are the worst day in 1 of 27 resamples: more than 2.5 %, less than the 5 % of a 90 % interval."""
    labels, challenger, champion = differing_by([-0.04, 0.01, 0.06])
    found = compare("brier", labels, challenger, champion, days([0, 1, 2]), 7)
    assert (found["difference"], found["low"], found["high"]) == pytest.approx((0.01, -0.04, 0.06))
    assert (found["days"], found["rows"]) == (3, 3)


def test_the_interval_is_scipys_at_95_percent_and_no_other() -> None:
    from scipy.stats import bootstrap

    each = np.random.default_rng(2).normal(0.001, 0.02, 60)
    labels, challenger, champion = differing_by(each)
    found = compare("brier", labels, challenger, champion, days(range(60)), 7)
    assert found["difference"] == pytest.approx(each.mean())

    def away(level: float) -> float:
        """By how much the ends differ from SciPy's, as a share of the width."""
        theirs = bootstrap(
            (each,), np.mean, confidence_level=level, method="percentile", n_resamples=20_000, rng=1
        ).confidence_interval
        ends = abs(found["low"] - theirs.low), abs(found["high"] - theirs.high)
        return float(max(ends) / (theirs.high - theirs.low))

    assert away(0.95) < 0.05
    assert all(away(level) > 0.06 for level in (0.5, 0.9, 0.98))


def test_resampled_days_weigh_as_much_as_they_have_rows() -> None:
    differences, of_day = np.array([0.05, 0.05, 0.05, -0.03, 0.0, 0.02]), np.array([0, 0, 0, 1, 2, 2])
    labels, challenger, champion = differing_by(differences)
    found = compare("brier", labels, challenger, champion, days(of_day), 11)
    drawn = np.random.default_rng(11).integers(3, size=(500, 3))
    means = [np.concatenate([differences[of_day == day] for day in each]).mean() for each in drawn]
    expected = [differences.mean(), *np.percentile(means, [2.5, 97.5])]
    assert [found["difference"], found["low"], found["high"]] == pytest.approx(expected)


def test_what_is_no_mean_over_rows_is_measured_on_each_resample() -> None:
    labels, said, asked_at = ten_days(rows_per_day=8)
    noise = np.random.default_rng(5).uniform(0.05, 0.95, len(said))
    found = compare("roc_auc", labels, noise, said, asked_at, 3)
    rows = [np.flatnonzero(asked_at == day) for day in np.unique(asked_at)]
    drawn = np.random.default_rng(3).integers(10, size=(500, 10))
    resamples = [np.concatenate([rows[day] for day in each]) for each in drawn]
    losses = [roc_auc(labels[each], said[each]) - roc_auc(labels[each], noise[each]) for each in resamples]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(losses, [2.5, 97.5]).tolist())


def test_where_a_metric_is_not_defined_there_is_no_interval() -> None:
    labels, said, asked_at = ten_days()
    found = compare("roc_auc", np.zeros_like(labels), said, said, asked_at, 7)
    assert all(np.isnan(found[name]) for name in ("difference", "low", "high"))
    none = compare("brier", labels[:0], said[:0], said[:0], asked_at[:0], 7)
    assert (none["days"], none["rows"]) == (0, 0)
    with pytest.raises(HindcastError, match="has 0 rows in common with it, of 0 days; there must be 2"):
        refresh(none)
    with pytest.raises(HindcastError, match="log_loss isn't defined on the rows in common"):
        refresh(found)


def test_days_not_rows_make_the_interval() -> None:
    labels, said, asked_at = ten_days()
    day = (asked_at - asked_at.min()).astype("timedelta64[D]").astype(int)
    # The challenger knows every label on one day and none on the next: whole days decide, however many rows they have.
    knows = np.where(day % 2 == 0, 0.8 * labels + 0.1, 0.9 - 0.8 * labels)
    by_day = compare("brier", labels, knows, said, asked_at, 7)
    shuffled = compare("brier", labels, knows, said, np.random.default_rng(6).permutation(asked_at), 7)
    assert by_day["difference"] == shuffled["difference"]
    assert by_day["high"] - by_day["low"] > 3 * (shuffled["high"] - shuffled["low"])
    assert compare("brier", labels, knows, said, asked_at, 7) == by_day


LENIENT = parcels_problem(metrics={"primary": "log_loss", "bars": {}, "tolerance": 0.002, "margin": 0.001})


def found(high: float, difference: float = 0.0, days: int = 31) -> dict[str, Any]:
    return {"difference": difference, "low": -0.1, "high": high, "days": days, "rows": 1000}


def refresh(comparison: dict[str, Any]) -> Check:
    return champion_check(LENIENT, REFRESH, (), comparison, "v0")


def change(comparison: dict[str, Any]) -> Check:
    return champion_check(LENIENT, CHANGE, ("features", "code"), comparison, "v0")


@pytest.mark.parametrize(("high", "holds"), [(-0.01, True), (0.0019, True), (0.002, True), (0.0021, False)])
def test_a_refresh_must_be_no_worse_within_the_tolerance(high: float, holds: bool) -> None:
    check = refresh(found(high))
    assert (check.name, check.value, check.limit, check.holds) == ("not_worse_than_champion", high, 0.002, holds)
    assert check.detail == (
        "A refresh, of newer data alone. v0: difference of log_loss +0.00000 (below 0 is better), 95 % of day-block "
        f"resamples between -0.10000 and {high:+.5f}, 31 days, 1000 rows"
    )


@pytest.mark.parametrize(("high", "holds"), [(-0.0011, True), (-0.001, False), (-0.0009, False), (0.001, False)])
def test_a_change_must_be_better_by_more_than_the_margin(high: float, holds: bool) -> None:
    check = change(found(high))
    assert (check.name, check.value, check.limit, check.holds) == ("better_than_champion", high, -0.001, holds)
    assert check.detail.startswith("A change of features, code. v0: difference of log_loss ")


def test_the_sign_of_the_mean_difference_decides_nothing() -> None:
    assert not refresh(found(0.003, difference=-0.05)).holds
    assert not change(found(0.0, difference=-0.05)).holds
    assert refresh(found(0.001, difference=0.0009)).holds


def test_of_fewer_than_two_days_nothing_follows() -> None:
    assert refresh(found(0.0, days=2)).holds
    with pytest.raises(HindcastError, match="1000 rows in common with it, of 1 days; there must be 2"):
        refresh(found(0.0, days=1))
    with pytest.raises(HindcastError, match="of 1 days"):
        change(found(-1.0, days=1))
    for name in ("difference", "low", "high"):
        with pytest.raises(HindcastError, match="isn't defined"):
            change(found(-1.0) | {name: float("nan")})


def test_unless_a_problem_says_otherwise_a_change_has_a_margin_and_a_refresh_no_tolerance() -> None:
    assert (PROBLEM.metrics.margin, PROBLEM.metrics.tolerance) == (0.0005, 0.0)


def test_what_was_made_alike_is_a_refresh_whatever_the_commit_or_snapshot() -> None:
    assert changes(MADE | {"snapshot": 2, "code_version": "b+"}, MADE | {"snapshot": 1, "code_version": "a"}) == ()
    assert changes(MADE | {"feature_definition": "g"}, MADE) == ("features",)
    assert changes(MADE | {"training_declaration": "e"}, MADE) == ("parameters",)
    assert changes(MADE | {"training_code": "d"}, MADE) == ("code",)
    assert changes(MADE, dict.fromkeys(MADE, "other")) == ("features", "parameters", "code")


def test_a_verdict_is_left_to_a_person_where_nothing_but_the_comparison_is_missing() -> None:
    missing = Check(COMPARABLE, None, None, False, "gone")
    alone = judge("v2", "v1", [GOOD, missing], NOON, CHANGE, ("features",))
    assert (alone.verdict, alone.promoted) == (UNDECIDED, False) == ("a person decides", False)
    assert (alone.question, alone.changed) == ("change", ("features",))
    assert judge("v2", "v1", [BAD, missing], NOON).verdict == REFUSED
    assert judge("v2", "v2", [missing], NOON).verdict == ALREADY


def test_challenger_and_champion_are_not_mixed_up(settings: Settings) -> None:
    """The tiny model says sigmoid(bias + weight); labels are drawn with a bias of 0: that is the better one."""
    data = parcels_data()
    random = np.random.default_rng(3)
    chance = 1 / (1 + np.exp(-data.frame["weight"].to_numpy()))
    data = replace(data, frame=data.frame.with_columns(late=(random.random(len(chance)) < chance).astype(np.int32)))
    for version, bias in (("right", 0.0), ("wrong", 1.0)):
        write_package(settings.models, version, bias=bias, **MADE)
    right, wrong = (ServedModel.load(settings.models / version) for version in ("right", "wrong"))

    test = data.frame.filter(data.frame["split"] == "test")
    labels, weight = test["late"].to_numpy(), test["weight"].to_numpy()
    losses = [log_losses(labels, 1 / (1 + np.exp(-(bias + weight)))).mean() for bias in (0.0, 1.0)]
    question, changed, check = against_champion(settings, PROBLEM, data, right, "wrong")
    assert (question, changed, check.holds) == ("refresh", (), True)
    assert f"wrong: difference of log_loss {losses[0] - losses[1]:+.5f} " in check.detail
    assert check.detail.endswith(f", 19 days, {len(test)} rows")
    assert check.value is not None and check.value < 0
    _, _, other = against_champion(settings, PROBLEM, data, wrong, "right")
    assert not other.holds and other.value is not None and other.value > 0

    newer = ServedModel.load(write_package(settings.models, "newer", **(MADE | {"training_code": "other"})))
    assert against_champion(settings, PROBLEM, data, newer, "right")[:2] == ("change", ("code",))
    assert not against_champion(settings, PROBLEM, data, newer, "right")[2].holds  # alike is no better


def test_without_another_champion_there_is_no_question(settings: Settings) -> None:
    model = ServedModel.load(write_package(settings.models, "v1"))
    for champion in (None, "v1"):
        question, changed, check = against_champion(settings, PROBLEM, parcels_data(), model, champion)
        assert (question, changed, check.name, check.holds) == (None, (), "not_worse_than_champion", True)
        assert check.detail == "there is no other champion"


def test_a_verdict_keeps_those_before_it(tmp_path: Path) -> None:
    file = tmp_path / "v1.json"
    refused, promoted = judge("v1", None, [BAD], NOON), judge("v1", None, [GOOD], NOON)
    keep(refused, file)
    keep(replace(refused, judged_at="later"), file)  # the same again is no news
    keep(promoted, file)
    keep(judge("v1", "v1", [GOOD], NOON), file)  # nor is that it is in use
    kept = json.loads(file.read_text())
    assert (kept["verdict"], kept["promoted"]) == (PROMOTED, True)
    assert [each["verdict"] for each in kept["earlier"]] == [REFUSED]
    texts = {"detail": "", "culprit": "", "look_at": ""}
    assert kept["checks"] == [{"name": "good", "value": 1.0, "limit": 0.5, "holds": True} | texts]


def test_a_challenger_is_held_against_the_champion_on_the_same_rows(settings: Settings) -> None:
    problem, data, candidates = trained_parcels()
    report = evaluate(problem, data.frame, candidates).report
    first = build(settings, problem, data, candidates, report, ["parcel_id"], feature_definition="f")
    said = evaluate_gate(settings, problem, data, report, first.folder, NOON)
    assert said.verdict == PROMOTED, shown_checks(said.checks)
    assert [check.name for check in said.checks][-4:] == [
        "model_roc_auc",
        "onnx_parity",
        "smoke_test",
        "not_worse_than_champion",
    ]
    promote(settings, first.version, NOON, verdict_file(settings, first.version))
    assert evaluate_gate(settings, problem, data, report, first.folder, NOON).verdict == ALREADY

    other = json.loads(json.dumps(report))
    for entry in other["candidates"]:
        entry["chosen"] = not entry["chosen"]
    second = build(settings, problem, data, candidates, other, ["parcel_id"], feature_definition="f")
    said = evaluate_gate(settings, problem, data, other, second.folder, NOON)
    compared = said.checks[-1]
    assert said.champion == first.version
    assert (said.question, said.changed, compared.name) == ("refresh", (), "not_worse_than_champion")
    assert f" {first.version}: difference of log_loss " in compared.detail
    losses = [next(e for e in each["candidates"] if e["chosen"])["test"]["log_loss"] for each in (other, report)]
    assert f"{losses[0] - losses[1]:+.5f}" in compared.detail


def test_a_damaged_champion_is_left_to_a_person(settings: Settings) -> None:
    (write_package(settings.models, "v1") / "model.onnx").write_bytes(b"")
    challenger = ServedModel.load(write_package(settings.models, "v2"))
    question, _, check = against_champion(settings, PROBLEM, parcels_data(), challenger, "v1")
    assert (question, check.name, check.holds) == (None, "comparable_with_champion", False)
    assert "model.onnx isn't what was packaged" in check.detail


def test_what_a_person_decided_stays_with_the_verdict(tmp_path: Path) -> None:
    file = tmp_path / "v1.json"
    decision = {"decision": "promote", "because": "no choice", "by": "ann", "at": "2024-05-01"}
    keep(judge("v1", "v0", [BAD], NOON), file)
    keep_decision(file, "v1", decision)
    kept = json.loads(file.read_text())
    assert (kept["verdict"], kept["promoted"], kept["decisions"]) == (REFUSED, False, [decision])
    before = file.read_text()
    keep(judge("v1", "v0", [BAD], NOON), file)  # the same again is no news
    assert file.read_text() == before
    keep(judge("v1", "v0", [GOOD], NOON), file)
    keep_decision(file, "v1", decision | {"at": "later"})
    kept = json.loads(file.read_text())
    assert (kept["verdict"], [each["verdict"] for each in kept["earlier"]]) == (PROMOTED, [REFUSED])
    assert [each["at"] for each in kept["decisions"]] == ["later", "2024-05-01"]
    keep_decision(tmp_path / "v2.json", "v2", decision)
    kept = json.loads((tmp_path / "v2.json").read_text())
    assert (kept["version"], kept["verdict"], kept["promoted"], kept["checks"]) == ("v2", "never judged", False, [])


def test_checks_are_shown_with_their_numbers() -> None:
    assert shown_checks([GOOD, Check("gone", None, None, False, "why")]).splitlines()[2:] == [
        "| good | yes | 1 | 0.5 |  |",
        "| gone | **no** |  |  | why |",
    ]


@pytest.fixture
def rivers(tmp_path: Path) -> Rivers:
    """A home in which m0 was packaged with the level, the state and the moon's phase among its features."""
    rivers = Rivers(tmp_path)
    package(rivers, "m0")
    return rivers


def test_the_gate_compares_each_model_on_its_own_features(rivers: Rivers) -> None:
    """Five days, one row each. The champion says sigmoid(level - 1); m2, since the level counts for an hour alone,
    sigmoid(0 - 1).
    """
    settings = rivers.settings
    package(rivers, "own", bias=-1.0)
    rivers.write("DELETE FROM split.days; DELETE FROM features.levels")
    for day in range(5, 10):
        six = f"'2020-01-0{day} 06:00'"
        rivers.write(f"INSERT INTO features.levels VALUES ('A', {six}, {six}, 3, NULL)")
        rivers.write(
            f"INSERT INTO split.days VALUES ('d{day}', 'A', 1, 4, TIMESTAMP '2020-01-0{day} 09:00', 1, "
            f"TIMESTAMP '2020-01-0{day} 10:00', 'test')"
        )
    redeclare(rivers, LESS.replace("ttl=timedelta(hours=6)", "ttl=timedelta(hours=1)"))
    m2 = ServedModel.load(package(rivers, "m2", SMALLER, bias=-1.0))
    data = trained(rivers)
    assert data.frame["level"].to_list() == [None] * 5 and "state" not in data.frame.columns
    question, changed, check = against_champion(settings, batch_problem(), data, m2, "own")
    assert (question, changed, check.name, check.holds) == ("change", ("features",), "better_than_champion", False)
    # -log(sigmoid(-1)) is 1.313262, -log(sigmoid(2)) is 0.126928.
    assert check.value == pytest.approx(1.313262 - 0.126928, abs=1e-5)
    assert check.detail.endswith("5 days, 5 rows")
    rivers.write("UPDATE features.levels SET level = 1000")  # the snapshot of the training set counts
    assert against_champion(settings, batch_problem(), data, m2, "own")[2].value == check.value


def test_features_of_the_same_names_are_the_champions_as_it_defines_them(rivers: Rivers) -> None:
    """The level counts for an hour alone now: at 09:00 that of 06:00 is known to the champion only."""
    settings = rivers.settings
    package(rivers, "own", bias=-1.0)
    rivers.write("DELETE FROM split.days; DELETE FROM features.levels")
    for day in (5, 6):
        six = f"'2020-01-0{day} 06:00'"
        rivers.write(f"INSERT INTO features.levels VALUES ('A', {six}, {six}, 3, NULL)")
        rivers.write(
            f"INSERT INTO split.days VALUES ('d{day}', 'A', 1, 4, TIMESTAMP '2020-01-0{day} 09:00', 1, "
            f"TIMESTAMP '2020-01-0{day} 10:00', 'test')"
        )
    redeclare(rivers, REPOSITORY.replace("ttl=timedelta(hours=6)", "ttl=timedelta(hours=1)"))
    m2 = ServedModel.load(package(rivers, "m2", bias=-1.0))
    data = trained(rivers)
    assert data.frame["level"].to_list() == [None] * 2 and "state" in data.frame.columns
    _, changed, check = against_champion(settings, batch_problem(), data, m2, "own")
    # -log(sigmoid(-1)) is 1.313262, -log(sigmoid(2)) is 0.126928.
    assert (changed, check.value) == (("features",), pytest.approx(1.313262 - 0.126928, abs=1e-5))


def test_rows_that_the_champion_cannot_have_are_left_out_and_none_at_all_is_left_to_a_person(rivers: Rivers) -> None:
    settings = rivers.settings
    redeclare(rivers)
    m2 = ServedModel.load(package(rivers, "m2", SMALLER))
    data = trained(rivers)
    rivers.write("DELETE FROM split.days")
    later = replace(data, snapshot=rivers.lake.snapshot())
    _, _, check = against_champion(settings, batch_problem(), later, m2, "m0")
    assert (check.name, check.holds) == ("comparable_with_champion", False)
    assert "has 0 rows in common with it, of 0 days; there must be 2" in check.detail


def test_features_that_are_defined_alike_are_those_of_the_training_set(rivers: Rivers) -> None:
    """The lake could not tell them any more; the training set's rows are the same."""
    m2 = ServedModel.load(package(rivers, "m2", bias=-20.0))
    data = trained(rivers)
    later = data.frame.with_columns(asked_at=data.frame["asked_at"] + pl.duration(days=pl.int_range(pl.len())))
    data = replace(data, frame=later)
    rivers.write("DROP TABLE features.levels")
    question, changed, check = against_champion(rivers.settings, batch_problem(), data, m2, "m0")
    assert (question, changed, check.name) == ("refresh", (), "not_worse_than_champion")
    assert check.detail.endswith(f"{len(later)} days, {len(later)} rows")


def test_a_split_table_that_lacks_what_the_champion_is_found_by_is_left_to_a_person(rivers: Rivers) -> None:
    redeclare(rivers)
    m2 = ServedModel.load(package(rivers, "m2", SMALLER))
    data = trained(rivers)
    rivers.write("ALTER TABLE split.days DROP COLUMN reach")
    data = replace(data, snapshot=rivers.lake.snapshot())
    _, _, check = against_champion(rivers.settings, batch_problem(), data, m2, "m0")
    assert (check.name, check.holds) == ("comparable_with_champion", False)
    assert "split.days has no column reach, which it needs." in check.detail
