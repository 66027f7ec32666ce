"""The SQL of features as known then, run by DuckDB alone on small histories; through Feast: test_offline_store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest

from hindcast.features.asof import FeatureTable, all_rows, as_of_join, instant, latest_rows, name, table_name

READINGS = [  # of gauge and day, when it came in, level
    ("A", 1, 1, 10),
    ("A", 3, 7, 30),
    ("A", 5, 5, 50),
    ("A", 5, 6, 51),
    ("B", 2, None, 20),
    ("B", None, 4, 99),
    (None, 2, 2, 77),
]
PLAIN = FeatureTable("features.levels", {"gauge": "at_gauge"}, "read_at", features={"level": "now"})
DATED = replace(PLAIN, created="came_in")
ALONE = replace(DATED, keys={})


def day(number: float) -> datetime:
    return datetime(2024, 1, 1) + timedelta(days=number - 1)


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA features")
    connection.execute(
        "CREATE TABLE features.levels (gauge VARCHAR, read_at TIMESTAMP, came_in TIMESTAMP, level INTEGER)"
    )
    rows = [(gauge, read and day(read), came and day(came), level) for gauge, read, came, level in READINGS]
    connection.executemany("INSERT INTO features.levels VALUES (?, ?, ?, ?)", rows)
    return connection


def joined(
    connection: duckdb.DuckDBPyConnection, view: FeatureTable, *asked: tuple[str | None, float | None], **options: Any
) -> list[int | None]:
    connection.execute(
        "CREATE OR REPLACE TABLE asked (at_gauge VARCHAR, __at TIMESTAMP, __row INTEGER, until TIMESTAMP)"
    )
    for number, (gauge, at) in enumerate(asked):
        row = [gauge, at and day(at), number, at and day(at + 1)]
        connection.execute("INSERT INTO asked VALUES (?, ?, ?, ?)", row)
    return [level for (level,) in connection.execute(as_of_join(view, "asked", **options)).fetchall()]


def test_without_a_word_on_it_a_row_is_known_from_its_timestamp(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DELETE FROM features.levels WHERE level = 51")
    asked = [("A", 0.9), ("A", 1), ("A", 3), ("A", 4.9), ("A", 5), ("B", 9), (None, 9), ("A", None)]
    assert joined(connection, PLAIN, *asked) == [None, 10, 30, 30, 50, 20, None, None]


def test_what_comes_in_behind_something_newer_never_counts(connection: duckdb.DuckDBPyConnection) -> None:
    asked = [("A", 4.9), ("A", 5), ("A", 5.9), ("A", 6), ("A", 8), ("B", 1.9), ("B", 2), ("B", 9), (None, 9)]
    assert joined(connection, DATED, *asked) == [10, 50, 50, 51, 51, None, 20, 20, None]


def test_a_correction_that_comes_in_late_counts_from_then(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DELETE FROM features.levels WHERE level IN (50, 51)")
    assert joined(connection, DATED, ("A", 3), ("A", 6.9), ("A", 7)) == [10, 10, 30]
    assert joined(connection, PLAIN, ("A", 3)) == [30]


def test_past_its_ttl_a_row_is_not_used_and_no_older_one_is(connection: duckdb.DuckDBPyConnection) -> None:
    asked = [("A", 7), ("A", 7.1), ("A", 3), ("A", 3.1), ("B", 4), ("B", 4.1), ("A", 0.5)]
    view = replace(DATED, ttl=timedelta(days=2))
    assert joined(connection, view, *asked) == [51, None, 10, None, 20, None, None]


def test_what_is_known_a_day_later_may_be_asked_for(connection: duckdb.DuckDBPyConnection) -> None:
    assert joined(connection, DATED, ("A", 4), ("A", 5), known_by="until") == [50, 51]
    view = replace(DATED, ttl=timedelta(days=1))
    assert joined(connection, view, ("A", 2), ("A", 3), known_by="until") == [10, None]


def test_a_view_without_keys_is_one_history(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DELETE FROM features.levels WHERE gauge = 'B'")
    assert joined(connection, ALONE, (None, 1), ("A", 1.9), ("A", 2), ("B", 4.9), ("A", 9)) == [10, 10, 77, 77, 51]


@pytest.mark.parametrize(
    ("start", "end", "levels"),
    [
        (None, None, [10, 20, 30, 50, 51, 77]),
        (None, 5, [10, 20, 50, 77]),
        (5, None, [30, 50, 51]),
        (5.1, 7, [30, 51]),
        (6, 6.9, [51]),
    ],
)
def test_rows_by_when_they_became_known(
    connection: duckdb.DuckDBPyConnection, start: float | None, end: float | None, levels: list[int]
) -> None:
    found = connection.execute(all_rows(DATED, start and day(start), end and day(end)))  # type: ignore[arg-type]
    assert [column for column, *_ in found.description] == ["gauge", "level", "read_at", "came_in"]
    # A row without a timestamp was never known; without bounds, all rows are meant.
    assert sorted(level for _, level, *_ in found.fetchall()) == sorted(levels + ([99] if start is end else []))


@pytest.mark.parametrize(
    ("start", "end", "rows"),
    [
        (None, None, [("A", 51), ("B", 20)]),
        (None, 5, [("A", 50), ("B", 20)]),
        (None, 1.9, [("A", 10)]),
        (6.1, None, [("A", 30)]),
        (5, 7, [("A", 51)]),
        (2, 2, [("B", 20)]),
    ],
)
def test_the_latest_row_of_each_key(
    connection: duckdb.DuckDBPyConnection, start: float | None, end: float | None, rows: list[tuple[str, int]]
) -> None:
    query = latest_rows(DATED, start and day(start), end and day(end))  # type: ignore[arg-type]
    found = connection.execute(query).fetchall()
    assert sorted((gauge, level) for gauge, level, *_ in found) == rows


def test_the_latest_row_where_none_says_when_it_came_in(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("DELETE FROM features.levels WHERE level = 51")
    assert sorted(connection.execute(latest_rows(PLAIN, None, None)).fetchall()) == [
        ("A", 50, day(5)),
        ("B", 20, day(2)),
    ]
    connection.execute("INSERT INTO features.levels VALUES ('B', '2024-01-02', '2024-01-01 23:00', 19)")
    found = connection.execute(latest_rows(DATED, None, day(4))).fetchall()
    assert [row[:2] for row in sorted(found)] == [("A", 10), ("B", 20)]  # 20 came in when it says, so after 19


def test_the_latest_row_without_keys_or_none(connection: duckdb.DuckDBPyConnection) -> None:
    assert connection.execute(latest_rows(ALONE, None, None)).fetchall() == [(51, day(5), day(6))]
    connection.execute("DELETE FROM features.levels WHERE level = 20")
    assert connection.execute(latest_rows(ALONE, None, day(4))).fetchall() == [(77, day(2), day(2))]
    assert connection.execute(latest_rows(ALONE, day(8), None)).fetchall() == []


def test_names_are_quoted_and_instants_are_utc() -> None:
    assert name('say "hi"') == '"say ""hi"""'
    assert table_name('features.my "levels"') == '"features"."my ""levels"""'
    east = datetime(2024, 1, 1, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    assert instant(east) == instant(datetime(2024, 1, 1, 0, 30)) == "TIMESTAMP '2024-01-01 00:30:00'"
    assert instant(datetime(2024, 1, 1, 0, 30, tzinfo=UTC)) == "TIMESTAMP '2024-01-01 00:30:00'"
