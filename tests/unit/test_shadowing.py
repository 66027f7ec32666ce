"""A challenger held against the champion on the same requests, with the figures worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hindcast.lake import Lake
from hindcast.monitoring.shadowing import compare, render
from hindcast.problem import Problem
from hindcast.settings import Settings
from tests.feature_world import river_problem

PROBLEM = river_problem().model_copy(update={"labeled_table": "labeled.days"})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    settings = Settings(tmp_path, tmp_path / "home")
    settings.lake_catalogue.parent.mkdir(parents=True)
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA floods; CREATE SCHEMA labeled")
        columns = "(day_id VARCHAR, id VARCHAR, model_version VARCHAR, prediction_time TIMESTAMP, "
        columns += "prediction DOUBLE[], decision VARCHAR)"
        for table in ("requests", "shadow_requests"):
            connection.execute(f"CREATE TABLE floods.{table} {columns}")
        connection.execute(
            "CREATE TABLE labeled.days AS FROM (VALUES ('d1', 1), ('d2', 0), ('d3', NULL)) t(day_id, flooded)"
        )
        at = "TIMESTAMP '2020-01-05'"
        connection.execute(
            f"INSERT INTO floods.requests VALUES ('d1', 'a', 'm1', {at}, [0.6], '1'), ('d2', 'b', 'm1', {at}, [0.4], "
            f"'0'), ('d3', 'c', 'm1', {at}, [0.5], '1'), ('d1', 'd', 'm1', {at}, [0.9], '1')"
        )
        connection.execute(
            f"INSERT INTO floods.shadow_requests VALUES ('d1', 'a', 'm2', {at}, [0.7], '1'), ('d2', 'b', 'm2', {at}, "
            f"[0.8], '1'), ('d3', 'c', 'm2', {at}, [0.2], '0')"
        )
    return lake


def test_both_are_measured_on_what_both_answered(lake: Lake) -> None:
    (pair,) = compare(PROBLEM, lake)
    assert (pair.champion, pair.challenger, pair.requests, pair.labeled) == ("m1", "m2", 3, 2)
    assert pair.mean_difference == pytest.approx((0.1 + 0.4 + 0.3) / 3, abs=1e-4)
    assert pair.decided_otherwise == 2
    assert pair.metrics["roc_auc"] == (1.0, 0.0)  # of d1 and d2, m1 puts the flooded one first, m2 last
    said = "m2 beside m1: 3 requests, probabilities 0.2667 apart on average, 2 decided otherwise"
    assert render([pair]).splitlines()[0] == said


def test_what_is_no_number_is_left_out(lake: Lake) -> None:
    with lake.writing() as connection:
        connection.execute("UPDATE floods.shadow_requests SET prediction = ['NaN'] WHERE id = 'a'")
        connection.execute("UPDATE floods.requests SET prediction = NULL WHERE id = 'b'")
    (pair,) = compare(PROBLEM, lake)
    assert (pair.requests, pair.labeled) == (1, 0)
    with lake.writing() as connection:
        connection.execute("UPDATE floods.requests SET prediction = [0.1, 0.9] WHERE id = 'c'")
    assert compare(PROBLEM, lake) == []


def of_task(task: str, label: Any = None) -> Problem:
    declared = PROBLEM.label.model_copy(update=label or {})
    return PROBLEM.model_copy(update={"task": task, "label": declared})


def log(lake: Lake, labels: str, *rows: tuple[str, str, str, str]) -> None:
    """Puts other rows in the place of the lake's: labels, and per day both predictions and both decisions as SQL."""
    with lake.writing() as connection:
        connection.execute("DELETE FROM floods.requests; DELETE FROM floods.shadow_requests")
        connection.execute(f"CREATE OR REPLACE TABLE labeled.days AS FROM (VALUES {labels}) t(day_id, flooded)")
        for number, (said, beside, decided, decided_beside) in enumerate(rows, 1):
            for table, model, prediction, decision in (
                ("requests", "m1", said, decided),
                ("shadow_requests", "m2", beside, decided_beside),
            ):
                connection.execute(
                    f"INSERT INTO floods.{table} VALUES ('d{number}', 'r{number}', '{model}', "
                    f"TIMESTAMP '2020-01-05', {prediction}, {decision})"
                )


def test_classes_are_compared_by_the_probability_that_moved_farthest_and_by_what_was_decided(lake: Lake) -> None:
    log(
        lake,
        "('d1', 'dry'), ('d2', 'flood'), ('d3', NULL)",
        ("[0.6, 0.3, 0.1]", "[0.5, 0.1, 0.4]", "'dry'", "'dry'"),
        ("[0.2, 0.3, 0.5]", "[0.2, 0.4, 0.4]", "'flood'", "'wet'"),
        ("[0.2, 0.8, 0.0]", "[0.2, 0.7, 0.1]", "'wet'", "'wet'"),
    )
    (pair,) = compare(of_task("multiclass", {"classes": ("dry", "wet", "flood")}), lake)
    assert (pair.requests, pair.labeled, pair.decided_otherwise) == (3, 2, 1)
    assert pair.mean_difference == pytest.approx((0.3 + 0.1 + 0.1) / 3)
    losses = -np.log([0.6, 0.5]).mean(), -np.log([0.5, 0.4]).mean()
    assert pair.metrics["log_loss"] == pytest.approx(losses)
    assert pair.metrics["accuracy"][0] == 1.0
    assert "probabilities 0.1667 apart on average, 1 decided otherwise" in render([pair])


def test_numbers_are_compared_by_their_values_and_nothing_is_decided(lake: Lake) -> None:
    log(
        lake,
        "('d1', 4.5), ('d2', 9.0)",
        ("[4.0, 3.0, 5.0]", "[6.0, 5.0, 9.0]", "NULL", "NULL"),
        ("[8.0, 7.0, 9.0]", "[7.0, 6.0, 10.0]", "NULL", "NULL"),
    )
    (pair,) = compare(of_task("regression"), lake)
    assert (pair.requests, pair.labeled, pair.decided_otherwise) == (2, 2, None)
    assert pair.mean_difference == 1.5
    assert pair.metrics["mae"] == (0.75, 1.75)
    assert pair.metrics["coverage"] == (1.0, 0.5)
    assert render([pair]).splitlines()[0] == "m2 beside m1: 2 requests, values 1.5000 apart on average"


def test_without_a_log_there_is_nothing_to_compare(tmp_path: Path) -> None:
    nothing = compare(PROBLEM, Lake(Settings(tmp_path, tmp_path / "home")))
    assert nothing == []
    assert "No challenger has been asked" in render(nothing)
