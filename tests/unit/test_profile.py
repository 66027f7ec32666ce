"""A column's figures against ones worked out by hand, and the page that shows them."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.tables.profile import Column, Profile, Table, keep, measure
from hindcast.tables.profile_page import page, pictures

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
    return measure(lake, problem, ["raw.readings", "raw.absent", "raw.empty", "labeled.outcomes"])


def column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


def test_tables_that_are_absent_and_columns_of_ingestion_are_left_out(profile: Profile) -> None:
    assert [table.name for table in profile.tables] == ["readings", "empty", "outcomes"]
    names = ["id", "size", "other", 'an "odd" name', "moment", "never", "same"]
    assert [column.name for column in profile.tables[0].columns] == names


def test_figures_of_whole_numbers(profile: Profile) -> None:
    found = column(profile.tables[0], "id")
    assert (found.type, found.rows, found.nulls, found.distinct, found.min, found.max) == ("INTEGER", 5, 0, 5, "1", "5")
    assert (found.mean, found.deviation) == (3.0, pytest.approx(2.5**0.5))
    assert found.quantiles == (1.2, 2.0, 3.0, 4.0, 4.8)
    assert found.histogram is not None
    assert (found.histogram.low, found.histogram.high, found.histogram.counts) == (0.5, 5.5, (1, 1, 1, 1, 1))


def test_what_is_not_finite_or_not_there_is_not_averaged(profile: Profile) -> None:
    found = column(profile.tables[0], "size")
    assert (found.nulls, found.distinct, found.max) == (1, 4, "inf")
    assert (found.mean, found.deviation, found.quantiles[2] if found.quantiles else None) == (4.0, 2.0, 4.0)
    assert found.histogram is not None and sum(found.histogram.counts) == 3
    assert column(profile.tables[0], "other").null_share == 0.4


def test_the_most_frequent_values_come_in_a_fixed_order(profile: Profile) -> None:
    found = column(profile.tables[0], 'an "odd" name')
    assert (found.top, found.distinct, found.mean, found.histogram) == ((("a", 2), ("b", 2)), 2, None, None)


def test_instants_have_ends_and_a_histogram_but_no_mean(profile: Profile) -> None:
    found = column(profile.tables[0], "moment")
    assert (found.min, found.max, found.mean) == ("2024-01-01 00:00:00", "2024-01-05 00:00:00", None)
    assert found.histogram is not None and sum(found.histogram.counts) == 5


def test_empty_columns_and_empty_tables_have_no_figures(profile: Profile) -> None:
    never, empty = column(profile.tables[0], "never"), profile.tables[1]
    assert (never.nulls, never.distinct, never.min, never.mean, never.top) == (5, 0, None, None, ())
    assert (never.quantiles, never.histogram) == (None, None)
    assert (empty.rows, empty.columns[0].null_share, empty.correlations) == (0, 0.0, {})


def test_correlations_are_of_columns_that_vary(profile: Profile) -> None:
    # other is (10, 20, -5) where id is (1, 2, 5): deviations (5/3, 35/3, -40/3) and (-5/3, -2/3, 7/3)
    other = (-25 - 70 - 280) / ((25 + 1225 + 1600) * (25 + 4 + 49)) ** 0.5
    assert profile.tables[0].correlations == {
        ("size", "id"): pytest.approx(1.0),
        ("other", "id"): pytest.approx(other),
        ("other", "size"): pytest.approx(1.0),
    }


def test_the_target_is_counted_per_day_where_the_label_is_known(profile: Profile) -> None:
    assert [(day.day, day.rows, day.values) for day in profile.target] == [
        ("2024-01-01", 2, {"broke": 0.5}),
        ("2024-01-02", 1, {"broke": 1.0}),
    ]


def test_classes_have_their_share_per_day(lake: Lake, problem: Problem) -> None:
    classes = measure(lake, problem.model_copy(update={"task": "multiclass"}), [])
    assert classes.target[0].values == {"0": 0.5, "1": 0.5}


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


def test_the_page_stands_by_itself_and_shows_every_table(profile: Profile, tmp_path: Path) -> None:
    drawn = pictures(profile)
    assert list(drawn) == [
        "target over time",
        "missing values",
        "raw.readings: columns",
        "raw.readings: correlations",
        "labeled.outcomes: columns",
    ]
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    text = page(profile, drawn, "A <title>", "lead", NOW)
    assert text.count("<img") == len(drawn)
    assert set(re.findall(r'(?:src|href)="(data:image/png;base64|[^"]{0,1})', text)) == {"data:image/png;base64", "#"}
    assert "A &lt;title&gt;" in text and "an &quot;odd&quot; name" in text and "2024-03-01 00:00 UTC" in text
