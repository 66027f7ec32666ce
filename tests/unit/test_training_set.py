"""The training set: which rows and columns it has, when it is written, and what its hash stands for."""

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from pandera.errors import SchemaErrors

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.training.training_set import build, content_hash, read, training_schema
from tests.feature_world import make_world, register, river_problem, shared_world

FEATURES = ["level", "state", "boats", "share", "dry", "phase"]


@pytest.fixture
def world() -> Settings:
    return shared_world()


def river_problem_with_reach() -> Problem:
    """An on-demand view needs `reach`, which the problem keeps as a slice."""
    problem = river_problem()
    return problem.model_copy(update={"slices": problem.slices.model_copy(update={"columns": ("gauge", "reach")})})


def test_split_rows_in_the_order_of_their_key_with_features_as_known_then(world: Settings) -> None:
    problem, lake = river_problem_with_reach(), Lake(world)
    snapshot = lake.snapshot()
    built = build(world, problem, lake)
    frame = read(problem, lake)
    assert frame.columns == [
        *("day_id", "asked_at", "flooded_known_at", "flooded", "split", "gauge", "reach", "river_id"),
        *FEATURES,
    ]
    assert frame["day_id"].to_list() == ["d1", "d2", "d3", "d4"]
    assert frame["level"].to_list() == [10, 7, 31, None]
    assert frame["boats"].to_list() == [5, 2, None, 2]
    assert frame["share"].to_list() == [0.4, 0.56, 31 * 4 / 120, None]
    assert frame["dry"].to_list() == [0, 0, 0, 1]
    assert built.rows == {"test": 1, "train": 2, "validation": 1}
    assert (built.features, built.snapshot, built.written) == (FEATURES, snapshot, True)
    assert built.content_hash == content_hash(frame)

    again = build(world, problem, lake)
    assert (again.written, again.content_hash) == (False, built.content_hash)
    training_schema(problem, [name for name in FEATURES if name != "phase"]).validate(frame, lazy=True)


def test_it_is_the_same_in_another_home_and_another_where_a_value_is(world: Settings, tmp_path: Path) -> None:
    problem = river_problem_with_reach()
    other = register(make_world(tmp_path))
    lake = Lake(other)
    before = build(other, problem, lake)
    assert before.content_hash == build(world, problem, Lake(world)).content_hash
    with lake.writing() as connection:
        connection.execute("UPDATE features.levels SET level = 32 WHERE level = 31")
    after = build(other, problem, lake)
    assert after.written and after.content_hash != before.content_hash
    with lake.writing() as connection:  # after every prediction: nobody may see it
        connection.execute("INSERT INTO features.levels VALUES ('A', '2020-01-06', '2020-01-06', 1000, 'flood')")
    assert build(other, problem, lake).content_hash == after.content_hash


def test_a_split_table_without_rows_or_a_needed_column_is_named(tmp_path: Path) -> None:
    settings, problem = register(make_world(tmp_path)), river_problem_with_reach()
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("DELETE FROM split.days")
    with pytest.raises(HindcastError, match=r"split\.days has no rows"):
        build(settings, problem, lake)
    with lake.writing() as connection:
        connection.execute("ALTER TABLE split.days DROP COLUMN gauge")
    with pytest.raises(HindcastError, match=r"split\.days has no column gauge, which floods needs"):
        build(settings, problem, lake)


def frame(**changes: list[object]) -> pl.DataFrame:
    columns: dict[str, object] = {
        "number": pl.Series([1, None, 3], dtype=pl.Int64),
        "share": [0.5, None, 1.5],
        "text": ["a", "", None],
        "at": [datetime(2020, 1, 1), None, datetime(2020, 1, 2)],
        "day": [date(2020, 1, 1), None, None],
        "yes": [True, None, False],
    }
    return pl.DataFrame(columns | changes)


def test_the_hash_is_of_the_content_and_not_of_how_it_lies_in_memory() -> None:
    one = frame()
    chunks = pl.concat([one.head(1), one.tail(2)], rechunk=False)
    narrow = one.with_columns(pl.col("number").cast(pl.Int32), pl.col("text").cast(pl.Categorical))
    garbage = pl.DataFrame({"share": [0.5, 7.0, 1.5]}).with_columns(
        pl.when(pl.col("share") < 5).then(pl.col("share"))  # null over a value
    )
    assert content_hash(chunks) == content_hash(narrow) == content_hash(one)
    assert content_hash(garbage) == content_hash(one.select("share"))


@pytest.mark.parametrize(
    "other",
    [
        frame(number=[1, 0, 3]),
        frame(text=["", "a", None]),
        frame(text=["a", None, ""]),
        frame(yes=[True, False, None]),
        frame(share=[0.5, None, 1.5000000000000002]),
        frame().rename({"day": "date"}),
        frame().select("share", "number", "text", "at", "day", "yes"),
        frame().reverse(),
        frame().head(2),
    ],
)
def test_the_hash_sees_every_difference(other: pl.DataFrame) -> None:
    assert content_hash(other) != content_hash(frame())


def trainable(**changes: list[object]) -> pl.DataFrame:
    columns: dict[str, object] = {
        "day_id": ["a", "b"],
        "asked_at": [datetime(2020, 1, 1), datetime(2020, 1, 2)],
        "flooded": [0, 1],
        "flooded_known_at": [datetime(2020, 1, 3)] * 2,
        "split": ["train", "test"],
        "level": [1.0, None],
        "state": ["low", None],
    }
    return pl.DataFrame(columns | changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"day_id": ["a", "a"]}, "day_id"),
        ({"flooded": [0, 2]}, "flooded"),
        ({"flooded_known_at": [datetime(2020, 1, 3), datetime(2020, 1, 2)]}, "asked_at must lie before"),
        ({"split": ["train", "later"]}, "split"),
        ({"level": pl.Series([None, None], dtype=pl.Float64)}, "level has no value at all"),
        ({"level": [1.0, float("inf")]}, "level must be finite"),
        ({"level": [1.0, float("nan")]}, "level must be finite"),
    ],
)
def test_the_schema_stops_what_nothing_may_be_trained_on(changes: dict[str, list[object]], fault: str) -> None:
    schema = training_schema(river_problem(), ["level", "state"])
    schema.validate(trainable(), lazy=True)
    with pytest.raises(SchemaErrors) as error:
        schema.validate(trainable(**changes), lazy=True)
    assert any(fault in str(each) for each in error.value.schema_errors)
