"""Parity of what was served, through the real reader, log and lake: no skew without a fault, and each fault named."""

import json
import linecache
import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from hindcast.features.definition import definition
from hindcast.features.feature_service import open_online_store
from hindcast.features.materialise import materialise
from hindcast.features.online import FeatureReader, FeatureRows
from hindcast.features.store import apply, open_store
from hindcast.lake import Lake
from hindcast.monitoring.parity import Parity, write
from hindcast.monitoring.parity_page import pictures, tables
from hindcast.package.model import SAMPLE
from tests.feature_world import at
from tests.served_rivers import Rivers, sigmoid


@pytest.fixture
def rivers(tmp_path: Path) -> Rivers:
    return Rivers(tmp_path)


A, B = ("A", 1), ("B", 2)


def test_nothing_is_skewed_where_nothing_is_wrong_and_staleness_is_exact(rivers: Rivers) -> None:
    """Filled at 06:30 and asked at 09:30. For B nothing new came; A rose from 10 to 31, its river's boats are unknown
    since 08:00, and the river grew from 100 to 120: its share goes from 10 * 4 / 100 to 31 * 4 / 120.
    """
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 09:30")), ("b", *B, at("05 09:30")))
    found = rivers.parity()
    assert (found.status, found.requests, found.checked, found.unchecked, found.cells) == ("ok", 2, 2, [], 12)
    assert found.window == {"from": "2020-01-05T09:30:00Z", "to": "2020-01-05T09:30:00Z"}
    assert found.skew == {
        "requests": 0,
        "cells": 0,
        "features": {},
        "views": {},
        "predictions": 0,
        "effect": None,
        "examples": [],
    }
    assert found.rewritten == {"requests": 0, "cells": 0, "features": {}}
    assert found.predictions == {"compared": 2, "equal": 2, "max_difference": 0.0, "tolerance": 1e-6}
    assert found.staleness["store_age"] == {"median": 3 * 3600, "max": 3 * 3600}
    assert found.staleness["requests"] == 1
    assert found.staleness["features"] == [
        {"feature": "boats", "share": 0.5, "missing_share": 0.5, "mean_absolute_difference": None},
        {"feature": "level", "share": 0.5, "missing_share": 0.0, "mean_absolute_difference": 21.0},
        {"feature": "share", "share": 0.5, "missing_share": 0.0, "mean_absolute_difference": 31 * 4 / 120 - 0.4},
        {"feature": "state", "share": 0.5, "missing_share": 0.0, "mean_absolute_difference": None},
    ]
    change = sigmoid(31 - 30) - sigmoid(10 - 30)  # past the threshold of 0.5; B's is 0
    assert found.staleness["effect"] == {
        "mean": pytest.approx(change / 2, abs=1e-6),
        "max": pytest.approx(change, abs=1e-6),
        "flips": 1,
    }
    assert sum(found.staleness["histogram"]["counts"]) == 2
    assert found.summary == (
        "0 of 12 cells skewed over 2 requests; staleness moves the probability by 0.3655 on average (max 0.7311) and "
        "turns 1 decisions."
    )


def test_a_fresh_store_is_not_stale(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 09:30"))
    rivers.serve(("a", *A, at("05 09:30")))
    found = rivers.parity()
    assert (found.status, found.staleness["features"], found.staleness["requests"]) == ("ok", [], 0)
    assert found.staleness["effect"] == {"mean": 0.0, "max": 0.0, "flips": 0}
    assert found.staleness["histogram"] is None


def test_a_value_that_only_the_online_store_holds_is_skew(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    store = open_store(rivers.settings)
    key = EntityKey(join_keys=["gauge"], entity_values=[Value(string_val="A")])
    changed = (key, {"level": Value(int32_val=30)}, at("05 06:00"), at("05 06:00"))
    open_online_store(store.config).online_write_batch(store.config, store.get_feature_view("levels"), [changed], None)
    rivers.serve(("a", *A, at("05 07:00")), ("b", *B, at("05 07:00")))
    found = rivers.parity()
    assert found.status == "skew"
    assert found.skew["features"] == {"level": 1, "share": 1}  # what is computed from it on demand, too
    assert (found.skew["requests"], found.skew["cells"], found.skew["views"]) == (1, 2, {})
    assert found.skew["examples"][0] == {
        "request": "a",
        "model_version": "m1",
        "prediction_time": "2020-01-05T07:00:00Z",
        "what": "level",
        "served": 30.0,
        "recomputed": 10.0,
    }
    assert found.skew["predictions"] == 1
    change = pytest.approx(sigmoid(30 - 30) - sigmoid(10 - 30), abs=1e-6)
    assert found.skew["effect"] == {"mean": change, "max": change, "flips": 1}
    assert found.summary.startswith("2 of 12 cells skewed over 2 requests (level, share); ")


def test_a_past_that_was_rewritten_after_the_store_was_filled_is_no_skew_and_is_told(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 07:00")), ("b", *B, at("05 07:00")))
    rivers.write("UPDATE features.levels SET level = 11 WHERE gauge = 'A' AND level = 10")
    found = rivers.parity()
    assert (found.status, found.checked, found.skew["cells"]) == ("ok", 2, 0)
    assert found.rewritten == {"requests": 1, "cells": 2, "features": {"level": 1, "share": 1}}
    assert "2 cells were rewritten later (level, share)" in found.summary


def test_a_rewritten_past_that_filling_on_never_brings_is_skew(rivers: Rivers) -> None:
    """From the second filling on, the store is said to come from the later snapshot."""
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("before", *A, at("05 06:40")))
    rivers.write("UPDATE features.levels SET level = 11 WHERE gauge = 'A' AND level = 10")
    materialise(rivers.settings, at("05 06:30"), at("05 07:00"))
    rivers.serve(("after", *A, at("05 07:10")))
    found = rivers.parity()
    assert found.skew["features"] == {"level": 1, "share": 1}
    assert {example["request"] for example in found.skew["examples"]} == {"after"}
    assert found.rewritten["requests"] == 1


class Elsewhen:
    """A fault: reads as of another time than it was asked about."""

    def __init__(self, inner: FeatureReader, shift: timedelta) -> None:
        self._inner, self._shift = inner, shift

    def read(self, rows: list[dict[str, Any]], instants: list[datetime]) -> FeatureRows:
        return self._inner.read(rows, [instant + self._shift for instant in instants])


def test_a_ttl_that_serving_does_not_honour_is_skew(rivers: Rivers) -> None:
    """A's row of 06:00 is good until 12:00, and was served at 12:30."""
    materialise(rivers.settings, None, at("05 08:00"))
    late = Elsewhen(FeatureReader(rivers.settings, "floods"), -timedelta(minutes=30))
    rivers.serve(("a", *A, at("05 12:30")), reader=late)
    found = rivers.parity()
    assert found.skew["features"] == {"level": 1, "state": 1, "share": 1, "dry": 1}
    assert found.skew["views"] == {"levels": 1}
    (row,) = [example for example in found.skew["examples"] if example["what"] == "levels known at"]
    assert (row["served"], row["recomputed"]) == ("2020-01-05T06:00:00Z", None)


def test_another_row_with_the_same_values_is_skew(rivers: Rivers) -> None:
    rivers.write("INSERT INTO features.levels VALUES ('B', '2020-01-05 06:10', '2020-01-05 06:10', 7, NULL)")
    materialise(rivers.settings, None, at("05 06:05"))
    rivers.serve(("b", *B, at("05 06:05")))
    rivers.write(
        """UPDATE floods.requests SET features_as_of = '2020-01-05 06:10', prediction_time = '2020-01-05 06:10'"""
    )
    found = rivers.parity()
    assert (found.status, found.skew["cells"], found.skew["views"]) == ("skew", 0, {"levels": 1})
    assert "another row was taken from a view 1 times (levels)" in found.summary


@pytest.mark.parametrize(("off", "wrong"), [(9e-7, 0), (1.1e-6, 1)])
def test_a_probability_that_the_package_does_not_say_is_skew(rivers: Rivers, off: float, wrong: int) -> None:
    materialise(rivers.settings, None, at("05 09:30"))
    rivers.serve(("a", *A, at("05 09:30")), ("b", *B, at("05 09:30")))
    rivers.write(f"UPDATE floods.requests SET prediction = [prediction[1] + {off}] WHERE id = 'a'")
    found = rivers.parity()
    assert (found.skew["predictions"], found.skew["cells"]) == (wrong, 0)
    assert found.status == ("skew" if wrong else "ok")
    assert [example["request"] for example in found.skew["examples"]] == ["a"] * wrong
    assert (found.predictions["equal"], found.predictions["max_difference"]) == (1, pytest.approx(off))


def test_classes_have_parity_and_staleness_turns_the_likeliest(rivers: Rivers) -> None:
    """A's level rises from 10 to 31: its scores from 0, -20, -40 to 0, 1, 2."""
    rivers.package("m2", task="multiclass", classes=("low", "high", "flood"))
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 09:30")), ("b", *B, at("05 09:30")), version="m2")
    found = rivers.parity()
    assert (found.status, found.checked, found.skew["predictions"], found.quantity) == ("ok", 2, 0, "probability")
    assert found.predictions == {"compared": 2, "equal": 2, "max_difference": 0.0, "tolerance": 1e-6}
    change = 1 - 1 / (1 + math.exp(1) + math.exp(2))  # of the first class, which loses the most
    assert found.staleness["effect"] == {
        "mean": pytest.approx(change / 2, abs=1e-6),
        "max": pytest.approx(change, abs=1e-6),
        "flips": 1,
    }
    (lost,) = np.flatnonzero(found.staleness["histogram"]["counts"][:20])
    assert lost == 0  # the change has its sign
    assert found.summary.endswith(
        "staleness moves the probability by 0.4550 on average (max 0.9100) and turns 1 decisions."
    )
    rivers.write("UPDATE floods.requests SET prediction = [prediction[1], 0.5, prediction[3]] WHERE id = 'a'")
    (example,) = rivers.parity().skew["examples"]
    assert (example["what"], example["served"]) == ("probability_high", 0.5)
    assert example["recomputed"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("off", "wrong"), [(4.9e-5, 0), (5.1e-5, 1)])
def test_a_value_may_differ_by_a_millionth_of_the_largest_label_and_decides_nothing(
    rivers: Rivers, off: float, wrong: int
) -> None:
    """A's value rises from -20 to 1; the largest label was 50."""
    rivers.package("m2", {SAMPLE: b'{"scale": 50.0}'}, task="regression")
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 09:30")), ("b", *B, at("05 09:30")), version="m2")
    rivers.write(
        f"UPDATE floods.requests SET prediction = [prediction[1], prediction[2], prediction[3] + {off}] WHERE id = 'a'"
    )
    found = rivers.parity()
    assert (found.status, found.skew["predictions"]) == ("skew" if wrong else "ok", wrong)
    assert found.predictions["max_difference"] == pytest.approx(off / 50)
    assert [example["what"] for example in found.skew["examples"]] == ["upper"] * wrong
    assert found.staleness["effect"] == {"mean": 10.5, "max": 21.0, "flips": None}
    assert found.quantity == "value"
    assert found.summary.endswith("staleness moves the value by 10.5000 on average (max 21.0000).")
    shown = tables(found)["Compared"]
    assert "largest change of the value by staleness" in shown
    assert "decisions turned" not in shown
    assert set(pictures(found)) == {"Requests whose feature had changed", "Change of the value"}


def test_models_of_several_tasks_are_added_up(rivers: Rivers) -> None:
    rivers.package("m2", task="regression")
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 09:30")))
    rivers.serve(("b", *A, at("05 09:30")), version="m2")
    found = rivers.parity()
    assert (found.status, found.checked, found.quantity) == ("ok", 2, "prediction")
    assert found.staleness["effect"]["flips"] == 1


def redeclare(rivers: Rivers) -> None:
    path = rivers.settings.feature_repo / "rivers.py"
    path.write_text(path.read_text().replace("ttl=timedelta(hours=6)", "ttl=timedelta(minutes=20)"))
    apply(rivers.settings, "rivers")


def take_out_a_feature(rivers: Rivers) -> None:
    path = rivers.settings.feature_repo / "rivers.py"
    path.write_text(path.read_text().replace("flow, moon]", "flow]"))
    apply(rivers.settings, "rivers")


def lose_the_package(rivers: Rivers) -> None:
    (rivers.settings.models / "m0" / "model.onnx").unlink()


def test_what_a_lost_package_answered_is_counted_and_named_and_proves_nothing(rivers: Rivers) -> None:
    rivers.package("m0")
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 06:30")), ("b", *B, at("05 06:30")), version="m0")
    assert rivers.parity().status == "ok"
    lose_the_package(rivers)
    check_nothing_proven(rivers.parity(), "has lost model.onnx; package the model again.")


def check_nothing_proven(found: Parity, reason: str) -> None:
    assert (found.status, found.requests, found.checked, found.cells) == ("nothing could be checked", 2, 0, 0)
    (left_out,) = found.unchecked
    assert reason in left_out["reason"]
    assert (left_out["requests"], left_out["examples"]) == (2, ["a", "b"])
    assert found.summary.startswith("2 requests can't be checked: ")


def test_a_state_that_the_lake_no_longer_tells_is_counted_and_named_and_proves_nothing(rivers: Rivers) -> None:
    """The past is rewritten, so that only the snapshot that the store was filled from can tell what was right."""
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 06:30")), ("b", *B, at("05 06:30")))
    rivers.write("UPDATE features.levels SET level = level + 1")
    assert rivers.parity().rewritten["requests"] == 2
    gone = "the lake no longer holds the snapshot that the online store was filled from"
    rivers.write("CREATE TABLE kept AS FROM floods.requests")

    def after(change: str) -> Parity:
        rivers.write(f"DELETE FROM floods.requests; INSERT INTO floods.requests FROM kept; {change}")
        return rivers.parity()

    # Served before that snapshot was made: it is one of a lake that was made in the place of another.
    check_nothing_proven(after("UPDATE floods.requests SET received_at = '2020-01-05 07:00'"), gone)
    # The first snapshot of all had no tables.
    check_nothing_proven(after("UPDATE floods.requests SET features_snapshot = 0"), "the lake lacks a table or column")
    expire_all_but_the_newest(rivers.lake)
    check_nothing_proven(after(""), gone)
    without = "answered from an online store that doesn't say until when it had been filled"
    check_nothing_proven(after("UPDATE floods.requests SET features_as_of = NULL"), without)


def expire_all_but_the_newest(lake: Lake) -> None:
    with lake.writing() as connection:
        connection.execute("COMMIT")  # expiring is a transaction of its own
        numbers = sorted(
            number for (number,) in connection.execute("SELECT snapshot_id FROM lake.snapshots()").fetchall()
        )
        connection.execute(f"CALL ducklake_expire_snapshots('lake', versions => {numbers[:-1]})")
        connection.execute("BEGIN")


def test_a_package_that_defines_its_features_is_checked_by_them_whatever_the_home_says_later(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 06:30")), ("b", *B, at("05 06:30")))
    redeclare(rivers)
    take_out_a_feature(rivers)
    found = rivers.parity()
    assert (found.status, found.checked, found.cells) == ("ok", 2, 12)


def test_what_can_be_checked_is_though_not_all_can(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.package("m0")
    rivers.serve(("a", *A, at("05 06:30")), version="m0")
    rivers.serve(("b", *B, at("05 06:30")))
    lose_the_package(rivers)
    found = rivers.parity()
    assert (found.status, found.requests, found.checked, found.cells) == ("ok", 2, 1, 6)
    assert found.unchecked[0]["examples"] == ["a"]
    assert found.predictions["compared"] == 1
    assert found.summary.startswith("0 of 6 cells skewed over 1 requests; 1 requests can't be checked: ")


def test_what_the_store_no_longer_holds_of_the_past_is_named_and_no_skew(rivers: Rivers) -> None:
    """Filled at 09:30, when A's row of 09:00 had taken the place of the one that counts at 07:00; B's is as it was."""
    materialise(rivers.settings, None, at("05 09:30"))
    rivers.serve(("a", *A, at("05 07:00")), ("b", *B, at("05 07:00")))
    found = rivers.parity()
    assert (found.status, found.checked) == ("ok", 1)
    (left_out,) = found.unchecked
    assert left_out["reason"].startswith("asked about an instant that the online store had passed")
    assert left_out["examples"] == ["a"]


def test_only_the_window_counts_and_none_is_none(rivers: Rivers) -> None:
    assert rivers.parity().status == "no requests"  # there isn't even a log
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 06:30")), ("b", *B, at("05 07:30")))
    assert rivers.parity("05 07:00").requests == 1
    assert rivers.parity("12 07:00").requests == 1
    found = rivers.parity("13 07:00")
    assert (found.status, found.requests, found.window) == ("no requests", 0, None)
    assert found.summary == "No requests in the window."


def test_it_is_kept_as_strict_json(rivers: Rivers, tmp_path: Path) -> None:
    written = write(rivers.parity(), tmp_path / "parity.json")
    assert json.loads((tmp_path / "parity.json").read_text()) == json.loads(written)
    assert json.loads(written)["predictions"]["max_difference"] is None


def test_many_small_histories_have_parity_whatever_is_asked_when(rivers: Rivers) -> None:
    """400 requests for 40 gauges from a store that is filled on six times, with rows that come in late."""
    draw = random.Random(11)
    events = {
        (f"G{draw.randrange(40)}", at("05 00:00") + timedelta(minutes=draw.randrange(0, 900, 20))) for _ in range(600)
    }
    rows = []
    for gauge, event in sorted(events):
        created = event + timedelta(minutes=draw.choice([0, 0, 90]))
        level, state = draw.choice(["NULL", draw.randrange(60)]), draw.choice(["NULL", "'low'", "'high'"])
        rows.append(f"('{gauge}', '{event:%Y-%m-%d %H:%M}', '{created:%Y-%m-%d %H:%M}', {level}, {state})")
    rivers.write(f"INSERT INTO features.levels VALUES {', '.join(rows)}")
    reader, filled = FeatureReader(rivers.settings, "floods"), None
    for hour in (3, 5, 6, 8, 12, 14):
        begins = at(f"05 {hour:02}:00")
        materialise(rivers.settings, filled, begins)
        filled = begins
        asked = [
            (
                f"{hour}-{number}",
                draw.choice([f"G{draw.randrange(42)}", None]),
                draw.choice([1, 2, 3, None]),
                begins + timedelta(minutes=draw.randrange(0, 480, 10)),
            )
            for number in range(66)
        ]
        rivers.serve(*asked, reader=reader)
        rivers.write(f"INSERT INTO features.moon VALUES ('2020-01-05 {hour}:01', {hour} / 24)")  # a snapshot of its own
    found = rivers.parity()
    assert (found.status, found.checked, found.skew["cells"], found.rewritten["cells"]) == ("ok", 396, 0, 0)
    assert found.predictions["equal"] == 396
    assert 100 < found.staleness["requests"] < 396


def test_a_definition_is_of_what_features_are_taken_from_not_of_words(rivers: Rivers) -> None:
    path, before = rivers.settings.feature_repo / "rivers.py", definition(rivers.settings, "floods")
    text = path.read_text()

    def defined(old: str, new: str) -> str:
        assert old in text
        path.write_text(text.replace(old, new))
        linecache.clearcache()  # Feast asks it for the source of functions
        apply(rivers.settings, "rivers")
        return definition(rivers.settings, "floods")

    moon = 'source=LakeSource(name="moon", table="features.moon"),'
    assert defined(moon, moon + ' description="Of the night.", owner="somebody",') == before
    assert (
        defined('Field(name="phase", dtype=Float64)', 'Field(name="phase", dtype=Float64, description="0 to 1")')
        == before
    )
    for old, new in (
        ("ttl=timedelta(hours=6)", "ttl=timedelta(hours=5)"),
        ("int(level is None)", "int(level is not None)"),
        ('created_timestamp_column="created"', 'created_timestamp_column=""'),
        ('rivers[["boats"]]', 'rivers[["boats", "length"]]'),
    ):
        assert defined(old, new) != before


ENTITY = '{"day_id": "of a", "gauge": "A", "river_id": 1, "reach": 4}'
HELD = '{"level": 10.0, "state": "low", "boats": 3.0, "share": 0.4, "dry": 0.0, "phase": null}'


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("entity", ENTITY.replace("1", '"word"'), "a value of river_id, among its entity, that isn't a whole"),
        ("entity", ENTITY.replace("1", "3000000000"), "a value of river_id, among its entity, that isn't a whole"),
        ("entity", ENTITY.replace("1", "9" * 30), "a value of river_id, among its entity, that isn't a whole"),
        ("entity", ENTITY.replace("1", "1.5"), "a value of river_id, among its entity, that isn't a whole"),
        ("entity", ENTITY.replace("1", "[1]"), "a value of river_id, among its entity, that isn't a whole"),
        ("entity", ENTITY.replace('"A"', '{"x": 1}'), "a value of gauge, among its entity, that isn't text"),
        ("entity", ENTITY.replace('"river_id": 1, ', ""), "without river_id among its entity"),
        ("entity", ENTITY[:-1], "broken JSON as its entity"),
        ("entity", "", "broken JSON as its entity"),
        ("entity", "[1, 2]", "a value that isn't an object as its entity"),
        ("entity", "null", "a value that isn't an object as its entity"),
        ("entity", None, "broken JSON as its entity"),
        ("features", HELD.replace("10.0", '"high"'), "a value of level, among its features, that isn't a finite"),
        ("features", HELD.replace("10.0", "NaN"), "a value of level, among its features, that isn't a finite"),
        ("features", HELD.replace("10.0", "1e999"), "a value of level, among its features, that isn't a finite"),
        ("features", HELD.replace('"low"', '{"unknown": 1}'), "a value of state, among its features, that isn't text"),
        ("features", HELD.replace('"level": 10.0, ', ""), "without level among its features"),
        ("feature_times", "{}", "among its feature_times"),
        ("feature_times", '{"levels": "2020-13-45", "rivers": null, "moon": null}', "that isn't an instant"),
        ("prediction", ["NaN"], "a probability that isn't a finite number"),
        ("prediction", [None], "a probability that isn't a finite number"),
        ("prediction", [0.5, 0.5], "a probability that isn't a finite number"),
        ("prediction", None, "a probability that isn't a finite number"),
    ],
)  # fmt: skip
def test_one_record_that_cannot_be_read_is_counted_and_named_and_stops_nothing(
    rivers: Rivers, column: str, value: Any, reason: str
) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 06:30")), ("b", *B, at("05 06:30")))
    assert rivers.parity().checked == 2
    with rivers.lake.writing() as connection:
        if column != "prediction":
            as_text = f"* REPLACE (CAST({column} AS VARCHAR) AS {column})"  # which takes broken JSON too
            connection.execute(f"CREATE OR REPLACE TABLE floods.requests AS SELECT {as_text} FROM floods.requests")
        connection.execute(f"UPDATE floods.requests SET {column} = ? WHERE id = 'a'", [value])
    found = rivers.parity()
    assert (found.status, found.requests, found.checked, found.cells) == ("ok", 2, 1, 6)
    (left_out,) = found.unchecked
    assert (left_out["requests"], left_out["examples"]) == (1, ["a"])
    assert left_out["reason"].startswith("logged with")
    assert reason in left_out["reason"]
    assert "; 1 requests can't be checked: logged with" in found.summary


def test_where_no_record_can_be_read_nothing_is_proven(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", *A, at("05 06:30")), ("b", *B, at("05 06:30")))
    rivers.write("UPDATE floods.requests SET prediction = ['NaN']")
    check_nothing_proven(rivers.parity(), "logged with a probability that isn't a finite number")


def test_a_text_that_looks_like_an_object_is_a_text(rivers: Rivers) -> None:
    materialise(rivers.settings, None, at("05 06:30"))
    rivers.serve(("a", "[A]", 1, at("05 06:30")), ("b", "{", 2, at("05 06:30")))
    found = rivers.parity()
    assert (found.status, found.checked, found.unchecked) == ("ok", 2, [])
