"""Checks, comparisons with the champion, and verdicts that are kept."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hindcast.models.champion import promote
from hindcast.models.evaluation import evaluate
from hindcast.models.gate import (
    ALREADY,
    PROMOTED,
    REFUSED,
    against_champion,
    bar_checks,
    champion_check,
    compare,
    evaluate_gate,
    judge,
    keep,
    parity_check,
    shown_checks,
    verdict_file,
)
from hindcast.models.leakage import Check
from hindcast.models.model import ServedModel
from hindcast.models.package import build
from hindcast.settings import Settings
from tests.made_up_problem import parcels_problem, trained_parcels
from tests.tiny_model import write_package

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD, BAD = Check("good", 1.0, 0.5, True), Check("bad", 0.1, 0.5, False)
PROBLEM = parcels_problem()


def chosen(roc_auc: float | None, log_loss: float) -> dict[str, Any]:
    return {"test": {"roc_auc": roc_auc, "log_loss": log_loss}}


def history(roc_auc: float) -> dict[str, Any]:
    return {"historic_rate": {"test": {"roc_auc": roc_auc}}}


def test_every_check_must_hold() -> None:
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
    assert not champion_check(PROBLEM, found).holds
    turned = compare(primary, labels, said, noise, asked_at, 7)
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert champion_check(PROBLEM, turned).holds


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


def test_a_little_worse_is_no_worse_within_the_tolerance() -> None:
    found = {"difference": 0.001, "low": -0.001, "high": 0.0019, "days": 31, "rows": 1000}
    lenient = parcels_problem(metrics={"primary": "log_loss", "bars": {}, "tolerance": 0.002})
    assert champion_check(lenient, found).holds
    assert not champion_check(PROBLEM, found).holds
    assert champion_check(PROBLEM, found | {"difference": -0.0001}).holds
    assert champion_check(PROBLEM, None, "there is no other champion").holds


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
    assert kept["checks"] == [{"name": "good", "value": 1.0, "limit": 0.5, "holds": True, "detail": ""}]


def test_a_challenger_is_held_against_the_champion_on_the_same_rows(settings: Settings) -> None:
    problem, data, candidates = trained_parcels()
    report = evaluate(problem, data.frame, candidates).report
    first = build(settings, problem, data, candidates, report, ["parcel_id"])
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
    second = build(settings, problem, data, candidates, other, ["parcel_id"])
    said = evaluate_gate(settings, problem, data, other, second.folder, NOON)
    compared = said.checks[-1]
    assert said.champion == first.version
    assert compared.detail.startswith(f"{first.version}: difference of log_loss ")
    losses = [next(e for e in each["candidates"] if e["chosen"])["test"]["log_loss"] for each in (other, report)]
    assert f"{losses[0] - losses[1]:+.5f}" in compared.detail


def test_a_champion_that_the_data_no_longer_feeds_is_not_compared(settings: Settings) -> None:
    problem, data, candidates = trained_parcels()
    report = evaluate(problem, data.frame, candidates).report
    champion = ServedModel.load(build(settings, problem, data, candidates, report, ["parcel_id"]).folder)
    challenger = ServedModel.load(write_package(settings.models, "v2"))
    check = against_champion(problem, data.frame.drop("distance", "kind"), challenger, champion)
    assert check.holds and check.value is None
    assert check.detail == f"{champion.version} needs what the training set no longer has: distance, kind"
