"""A log's table of before other tasks than binary: whoever reads it finds the same before and after its change."""

from pathlib import Path

import polars as pl
import pytest

from hindcast.features.materialise import materialise
from hindcast.monitoring.periods import LABELED, _current, label_requests
from hindcast.monitoring.shadowing import compare
from hindcast.package.model import ServedModel
from hindcast.package.reference import read_reference
from hindcast.promotion import champion
from hindcast.promotion.rollback import roll_back
from hindcast.serving.request_log import compact
from tests.feature_world import at, river_problem
from tests.served_rivers import Rivers, package

PROBLEM = river_problem().model_copy(update={"labeled_table": "labeled.days"})
NOW = at("06 00:00")


def change_back(rivers: Rivers, table: str) -> None:
    """Gives a table the form of before."""
    rivers.write(
        f"CREATE OR REPLACE TABLE {table} AS SELECT * EXCLUDE (prediction, decision), prediction[1] AS probability, "
        f"CAST(decision AS INTEGER) AS decision FROM {table}"
    )


@pytest.fixture
def rivers(tmp_path: Path) -> Rivers:
    """m1 has answered twice; m2 is the champion since."""
    rivers = Rivers(tmp_path)
    materialise(rivers.settings, None, at("05 06:30"))
    package(rivers, "m2", bias=-20.0)
    for version in ("m1", "m2"):
        champion.promote(rivers.settings, version, NOW, rivers.settings.verdicts / "verdict.json")
    rivers.serve(("a", "A", 1, at("05 09:30")), ("b", "B", 2, at("05 09:30")))
    rivers.write(
        "CREATE SCHEMA labeled; CREATE TABLE labeled.days AS FROM (VALUES ('of a', 1, TIMESTAMP '2020-01-05 12:00'), "
        f"('of b', NULL, NULL)) AS t(day_id, {PROBLEM.label.column}, {PROBLEM.label.known_at})"
    )
    return rivers


def test_parity_is_the_same(rivers: Rivers) -> None:
    expected = rivers.parity()
    assert (expected.status, expected.checked) == ("ok", 2)
    change_back(rivers, "floods.requests")
    assert rivers.parity() == expected
    compact(rivers.settings.request_log, rivers.lake, "floods.requests", "day_id")
    assert rivers.parity() == expected


def test_a_champion_of_before_is_gone_back_to(rivers: Rivers) -> None:
    change_back(rivers, "floods.requests")
    done = roll_back(rivers.settings, rivers.lake, NOW)
    assert (done.version, done.logged, done.replayed, done.max_difference) == ("m1", 2, 2, 0.0)


@pytest.mark.parametrize("old", [("requests",), ("shadow_requests",), ("requests", "shadow_requests")])
def test_a_challenger_is_compared(rivers: Rivers, old: tuple[str, ...]) -> None:
    rivers.write(
        "CREATE TABLE floods.shadow_requests AS SELECT * REPLACE ('m2' AS model_version, [0.25::DOUBLE] AS prediction, "
        "'0' AS decision) FROM floods.requests"
    )
    expected = compare(PROBLEM, rivers.lake)
    assert [(pair.requests, pair.labeled) for pair in expected] == [(2, 1)]
    for table in old:
        change_back(rivers, f"floods.{table}")
    assert compare(PROBLEM, rivers.lake) == expected


def test_labeled_requests_are_read_in_either_form_and_written_in_todays(rivers: Rivers) -> None:
    model = ServedModel.load(rivers.settings.models / "m1")
    reference = read_reference(model).with_columns(probability=pl.lit(0.5))

    def read() -> pl.DataFrame:
        return _current(PROBLEM, rivers.lake, model, reference, NOW, NOW)[0]

    change_back(rivers, "floods.requests")
    counts = label_requests(PROBLEM, rivers.lake)
    assert (counts.requests, counts.labeled) == (2, 1)
    expected = read()
    assert (expected.height, expected["label"].to_list()) == (2, [1, None])
    change_back(rivers, f"floods.{LABELED}")
    assert read().equals(expected)
    compact(rivers.settings.request_log, rivers.lake, "floods.requests", "day_id")
    label_requests(PROBLEM, rivers.lake)
    with rivers.lake.reading() as connection:
        assert connection.execute(f"SELECT prediction FROM floods.{LABELED}").fetchall()
    assert read().equals(expected)
