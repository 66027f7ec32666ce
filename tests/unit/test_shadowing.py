"""A challenger held against the champion on the same requests, with the figures worked out by hand."""

from pathlib import Path

import pytest

from hindcast.lake import Lake
from hindcast.monitoring.shadowing import compare, render
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
        columns += "probability DOUBLE, decision INTEGER)"
        for table in ("requests", "shadow_requests"):
            connection.execute(f"CREATE TABLE floods.{table} {columns}")
        connection.execute(
            "CREATE TABLE labeled.days AS FROM (VALUES ('d1', 1), ('d2', 0), ('d3', NULL)) t(day_id, flooded)"
        )
        at = "TIMESTAMP '2020-01-05'"
        connection.execute(
            f"INSERT INTO floods.requests VALUES ('d1', 'a', 'm1', {at}, 0.6, 1), ('d2', 'b', 'm1', {at}, 0.4, 0), "
            f"('d3', 'c', 'm1', {at}, 0.5, 1), ('d1', 'd', 'm1', {at}, 0.9, 1)"
        )
        connection.execute(
            f"INSERT INTO floods.shadow_requests VALUES ('d1', 'a', 'm2', {at}, 0.7, 1), ('d2', 'b', 'm2', {at}, 0.8, "
            f"1), ('d3', 'c', 'm2', {at}, 0.2, 0)"
        )
    return lake


def test_both_are_measured_on_what_both_answered(lake: Lake) -> None:
    (pair,) = compare(PROBLEM, lake)
    assert (pair.champion, pair.challenger, pair.requests, pair.labeled) == ("m1", "m2", 3, 2)
    assert pair.mean_difference == pytest.approx((0.1 + 0.4 + 0.3) / 3, abs=1e-4)
    assert pair.decided_otherwise == 2
    assert pair.metrics["roc_auc"] == (1.0, 0.0)  # of d1 and d2, m1 puts the flooded one first, m2 last
    assert "m2 beside m1: 3 requests" in render([pair])


def test_what_is_no_number_is_left_out(lake: Lake) -> None:
    with lake.writing() as connection:
        connection.execute("UPDATE floods.shadow_requests SET probability = 'NaN' WHERE id = 'a'")
        connection.execute("UPDATE floods.requests SET probability = NULL WHERE id = 'b'")
    (pair,) = compare(PROBLEM, lake)
    assert (pair.requests, pair.labeled) == (1, 0)


def test_without_a_log_there_is_nothing_to_compare(tmp_path: Path) -> None:
    nothing = compare(PROBLEM, Lake(Settings(tmp_path, tmp_path / "home")))
    assert nothing == []
    assert "No challenger has been asked" in render(nothing)
