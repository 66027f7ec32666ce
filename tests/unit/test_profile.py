"""A column's figures against ones worked out by hand, and the page that shows them."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.tables.profile import SAMPLE_ROWS, Profile, keep, measure
from hindcast.tables.profile_page import TARGET, figures, page, target_picture

NOW = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def problem() -> Problem:
    settings = Settings.from_environment()
    base = load_problem(settings.problem_file)
    return base.model_copy(
        update={
            "labeled_table": "labeled.outcomes",
            "label": base.label.model_copy(update={"column": "broke"}),
            "prediction_time": base.prediction_time.model_copy(update={"column": "asked_at"}),
        }
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    home = tmp_path_factory.mktemp("home")
    lake = Lake(Settings(home, home))
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA raw")
        connection.execute("CREATE SCHEMA labeled")
        connection.execute(
            """
            CREATE TABLE raw.readings AS SELECT * FROM (VALUES
                (1, 2.0, 10.0, 'b', TIMESTAMP '2024-01-01', NULL::INTEGER, 7),
                (2, 4.0, 20.0, 'a', TIMESTAMP '2024-01-02', NULL, 7),
                (3, 6.0, NULL, 'a', TIMESTAMP '2024-01-03', NULL, 7),
                (4, 'inf'::DOUBLE, NULL, 'b', TIMESTAMP '2024-01-04', NULL, 7),
                (5, NULL, -5.0, NULL, TIMESTAMP '2024-01-05', NULL, 7)
            ) t(id, size, other, "an ""odd"" name", moment, never, same)
            """
        )
        connection.execute("ALTER TABLE raw.readings ADD COLUMN _source_line BIGINT")
        connection.execute("CREATE TABLE raw.empty (id INTEGER, moment TIMESTAMP)")
        connection.execute(
            "CREATE TABLE raw.odd AS SELECT [1, 2] AS list, {'a': 1} AS struct, 'b'::BLOB AS blob, 1.5 AS d"
        )
        connection.execute(f"CREATE TABLE raw.many AS SELECT range AS n FROM range({SAMPLE_ROWS + 1})")
        connection.execute(
            """
            CREATE TABLE labeled.outcomes AS SELECT * FROM (VALUES
                (TIMESTAMP '2024-01-01 05:00', 1), (TIMESTAMP '2024-01-01 23:00', 0),
                (TIMESTAMP '2024-01-02 00:00', 1), (TIMESTAMP '2024-01-02 01:00', NULL)
            ) t(asked_at, broke)
            """
        )
    return lake


@pytest.fixture(scope="module")
def profile(lake: Lake, problem: Problem) -> Profile:
    return measure(
        lake, problem, ["raw.readings", "raw.absent", "raw.empty", "raw.odd", "raw.many", "labeled.outcomes"]
    )


def column(profile: Profile, name: str, table: str = "raw.readings") -> dict[str, Any]:
    return profile.columns(table).row(by_predicate=pl.col("column_name") == name, named=True)


def test_tables_that_are_absent_and_columns_of_ingestion_are_left_out(profile: Profile) -> None:
    assert list(profile.samples) == ["raw.readings", "raw.empty", "raw.odd", "raw.many", "labeled.outcomes"]
    names = ["id", "size", "other", 'an "odd" name', "moment", "never", "same"]
    assert profile.columns("raw.readings")["column_name"].to_list() == names
    assert profile.samples["raw.readings"].columns == names
    assert profile.columns("raw.readings")["position"].to_list() == [1, 2, 3, 4, 5, 6, 7]


def test_figures_of_whole_numbers(profile: Profile) -> None:
    found = column(profile, "id")
    figures = [found[name] for name in ("type", "rows", "nulls", "distinct_values", "min", "max")]
    assert figures == ["INTEGER", 5, 0, 5, "1", "5"]
    assert (found["mean"], found["standard_deviation"]) == (3.0, pytest.approx(2.5**0.5))
    assert [found[name] for name in ("q05", "q25", "q50", "q75", "q95")] == [1.2, 2.0, 3.0, 4.0, 4.8]


def test_what_is_not_finite_or_not_there_is_not_averaged(profile: Profile) -> None:
    found = column(profile, "size")
    assert (found["nulls"], found["distinct_values"], found["max"]) == (1, 4, "inf")
    assert (found["mean"], found["standard_deviation"], found["q50"]) == (4.0, 2.0, 4.0)
    other = column(profile, "other")
    assert (other["nulls"], other["rows"]) == (2, 5)


def test_the_most_frequent_values_come_in_a_fixed_order(profile: Profile) -> None:
    found = column(profile, 'an "odd" name')
    assert found["top_values"] == [{"value": "a", "rows": 2}, {"value": "b", "rows": 2}]
    assert (found["distinct_values"], found["mean"]) == (2, None)


def test_instants_have_ends_but_no_mean(profile: Profile) -> None:
    found = column(profile, "moment")
    assert (found["min"], found["max"], found["mean"]) == ("2024-01-01 00:00:00", "2024-01-05 00:00:00", None)


def test_empty_columns_and_empty_tables_have_no_figures(profile: Profile) -> None:
    never, empty = column(profile, "never"), column(profile, "id", "raw.empty")
    assert (never["nulls"], never["distinct_values"], never["min"], never["top_values"]) == (5, 0, None, [])
    assert (never["mean"], never["q50"]) == (None, None)
    assert (empty["rows"], empty["nulls"], profile.rows("raw.empty")) == (0, 0, 0)


def test_columns_of_any_type_are_shown(profile: Profile) -> None:
    assert profile.samples["raw.odd"].rows() == [("[1, 2]", "{'a': 1}", "b", 1.5)]
    assert column(profile, "list", "raw.odd")["max"] == "[1, 2]"
    assert column(profile, "d", "raw.odd")["mean"] == 1.5


def test_a_large_table_is_sampled_in_the_same_way_each_time(lake: Lake, problem: Problem, profile: Profile) -> None:
    sample = profile.samples["raw.many"]
    assert (sample.height, profile.rows("raw.many")) == (SAMPLE_ROWS, SAMPLE_ROWS + 1)
    assert sample["n"].n_unique() == SAMPLE_ROWS
    assert measure(lake, problem, ["raw.many"]).samples["raw.many"].equals(sample)
    assert column(profile, "n", "raw.many")["max"] == str(SAMPLE_ROWS)  # figures are of all rows


def test_the_target_is_counted_per_day_where_the_label_is_known(profile: Profile) -> None:
    assert profile.target.rows() == [(date(2024, 1, 1), 2, 0.5), (date(2024, 1, 2), 1, 1.0)]
    assert profile.target.columns == ["day", "rows", "broke"]


def test_classes_have_their_share_per_day(lake: Lake, problem: Problem) -> None:
    label = problem.label.model_copy(update={"classes": ("0", "1")})
    classes = measure(lake, problem.model_copy(update={"label": label}), ["labeled.outcomes"]).target
    assert classes.select("day", "rows", "0", "1").rows() == [
        (date(2024, 1, 1), 2, 0.5, 0.5),
        (date(2024, 1, 2), 1, 0.0, 1.0),
    ]


def test_the_lake_keeps_one_row_per_column_and_writes_only_what_differs(
    lake: Lake, profile: Profile, problem: Problem
) -> None:
    version = keep(lake, profile, problem)
    with lake.reading() as connection:
        rows = connection.execute(
            "SELECT position, rows, nulls, mean, q50, top_values FROM flight_delay.profile "
            "WHERE table_name = 'readings' AND column_name = 'other'"
        ).fetchall()
    top = [{"value": "-5.0", "rows": 1}, {"value": "10.0", "rows": 1}, {"value": "20.0", "rows": 1}]
    assert rows == [(3, 5, 2, pytest.approx(25 / 3), 10.0, top)]
    snapshot = lake.snapshot()
    assert keep(lake, profile, problem) == version
    assert lake.snapshot() == snapshot
    fewer = replace(profile, figures=profile.figures.head(1))
    assert keep(lake, fewer, problem) != version
    with lake.reading() as connection:
        assert connection.execute("SELECT count(*) FROM flight_delay.profile").fetchall() == [(1,)]


def test_the_page_needs_no_other_file_and_shows_every_table(profile: Profile) -> None:
    text = page(profile, "A <title>", "Why?", NOW)
    assert "A &lt;title&gt;" in text and "2024-03-01 00:00 UTC" in text
    for heading in ("raw.readings: all 5 rows", "raw.empty: all 0 rows", "labeled.outcomes: all 4 rows"):
        assert f"<h2>{heading}</h2>" in text
    assert f"<h2>raw.many: a sample of {SAMPLE_ROWS:,} of {SAMPLE_ROWS + 1:,} rows</h2>" in text
    assert "an &quot;odd&quot; name" in text and TARGET in text
    assert target_picture(profile).startswith(b"\x89PNG")
    # Links that a reader may follow are no files that the page needs.
    needed = re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=[\"']?([^\s\"'>]+)", text)
    assert needed and all(each.startswith("data:") for each in needed)
    assert not re.findall(r"(?:url\(|@import|fetch\(|XMLHttpRequest)[\"'\s]*(?:https?:)?//", text)


def test_figures_are_a_table_of_one_row_per_column(profile: Profile) -> None:
    head, _, *rows = figures(profile, "raw.readings").splitlines()
    assert head.startswith("| column | type | nulls | distinct | min | max | mean | std | 5% |")
    assert rows[2].startswith("| other | DECIMAL(3,1) | 2 (40.0%) | 3 | -5.0 | 20.0 | 8.333 | 12.58 |")
    assert len(rows) == 7
