"""Features as known then, on small histories in DuckDB; through Feast: test_offline_store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from hindcast.features.asof import FeatureTable, all_rows, as_of_join, instant, latest_rows
from hindcast.sql import identifier, table_identifier

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
    rows = {
        "at_gauge": pa.array([gauge for gauge, _ in asked], pa.string()),
        "__at": pa.array([at and day(at) for _, at in asked], pa.timestamp("us")),
        "until": pa.array([at and day(at + 1) for _, at in asked], pa.timestamp("us")),
    }
    return join(connection, view, pa.table(rows), **options)["now"].to_pylist()


def join(connection: duckdb.DuckDBPyConnection, view: FeatureTable, rows: pa.Table, known_by: str = "__at") -> pa.Table:
    return as_of_join(connection, view, pl.DataFrame(rows).with_row_index("__row"), known_by)


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


def test_what_is_too_old_or_too_new_for_every_instant_is_not_read(connection: duckdb.DuckDBPyConnection) -> None:
    def read(view: FeatureTable, first: float, last: float) -> list[int]:
        found = connection.execute(view.history(day(first), day(last))).to_arrow_table()
        return sorted(found["level"].to_pylist())

    connection.execute("DELETE FROM features.levels WHERE level = 51")
    assert read(PLAIN, 4, 5) == [10, 20, 30, 50, 77]
    assert read(PLAIN, 4, 4.9) == [10, 20, 30, 77]
    two_days = timedelta(days=2)
    assert read(replace(PLAIN, ttl=two_days), 4, 4.9) == [20, 30, 77]
    assert read(replace(PLAIN, ttl=two_days), 4.1, 4.9) == [30]
    assert read(replace(DATED, ttl=two_days), 5, 6.9) == [50]  # 30 is of the third, but came in on the seventh


@pytest.mark.parametrize(
    ("asked", "held", "expected"),
    [
        (pa.array([1, 2, None], pa.int64()), "INTEGER", [1, 2, None]),
        (pa.array([1, 2**40, None], pa.int64()), "INTEGER", [1, None, None]),
        (pa.array([1, 1.5, 2], pa.float64()), "INTEGER", [1, None, 2]),
        (pa.array([1, 2, 3], pa.int8()), "BIGINT", [1, 2, None]),
        (pa.array([1, 2, 1], pa.int32()), "DOUBLE", [1, 2, 1]),
        (pa.array(["1", "2", None]), "VARCHAR", [1, 2, None]),
        (pa.array(["1", "2", "2"], pa.large_string()), "VARCHAR", [1, 2, 2]),
        (pa.array(["1", "3", "2"]).dictionary_encode(), "VARCHAR", [1, None, 2]),
        (pa.array([b"1", b"2", b"3"]), "BLOB", [1, 2, None]),
        (pa.array([True, False, None]), "BOOLEAN", [1, None, None]),
        (pa.array([day(1), day(2), day(3)], pa.timestamp("ns", "Asia/Tokyo")), "TIMESTAMP", [1, 2, None]),
    ],
)
def test_keys_of_other_types_are_equal_where_their_values_are(
    connection: duckdb.DuckDBPyConnection, asked: pa.Array, held: str, expected: list[int | None]
) -> None:
    connection.execute(f"CREATE TABLE features.numbered (k {held}, read_at TIMESTAMP, n INTEGER)")
    others: dict[str, list[Any]] = {"BOOLEAN": [True], "BLOB": [b"1", b"2"], "TIMESTAMP": [day(1), day(2)]}
    keys = others.get(held, [1, 2])
    for number, key in enumerate(keys, 1):
        connection.execute("INSERT INTO features.numbered VALUES (?, ?, ?)", [key, day(1), number])
    rows = pa.table({"k": asked, "__at": pa.array([day(2)] * 3, pa.timestamp("us"))})
    view = FeatureTable("features.numbered", {"k": "k"}, "read_at", features={"n": "n"})
    assert join(connection, view, rows)["n"].to_pylist() == expected


def test_features_keep_the_types_of_the_table(connection: duckdb.DuckDBPyConnection) -> None:
    columns = {
        "words": "'a'", "small": "1::TINYINT", "half": "0.5::FLOAT", "flag": "true", "on_day": "DATE '2024-01-01'",
        "instant": "TIMESTAMP '2024-01-01'", "zoned": "TIMESTAMPTZ '2024-01-01 00:00:00+00'", "raw": "'x'::BLOB",
    }  # fmt: skip
    listed = ", ".join(f"{sql} AS {column}" for column, sql in columns.items())
    connection.execute(f"CREATE TABLE features.kinds AS SELECT 'A' AS k, TIMESTAMP '2024-01-01' AS read_at, {listed}")
    view = FeatureTable("features.kinds", {"k": "k"}, "read_at", features={column: column for column in columns})
    rows = pa.table({"k": ["A", "B"], "__at": pa.array([day(2)] * 2, pa.timestamp("us"))})
    found = join(connection, view, rows)
    read = connection.execute(f"SELECT {', '.join(columns)} FROM features.kinds").to_arrow_table()
    assert found.schema == read.schema
    assert found.slice(0, 1).equals(read)
    assert found.slice(1).to_pylist() == [dict.fromkeys(columns)]


def by_duckdb(
    connection: duckdb.DuckDBPyConnection, view: FeatureTable, entity_rows: pa.Table, known_by: str
) -> pa.Table:
    """The same by DuckDB's ASOF JOIN, of the whole table."""
    history = view.history(datetime.min + timedelta(days=4000), datetime.max)
    fresh = f"v.__at >= e.__at - to_microseconds({view.ttl // timedelta(microseconds=1)})" if view.ttl else "true"
    taken = [f"CASE WHEN v.__at IS NOT NULL AND {fresh} THEN v.{c} END AS {out}" for c, out in view.features.items()]
    same_keys = "".join(f"e.{entity} = v.{key} AND " for key, entity in view.keys.items())
    known = "__known" if view.created else "__at"
    connection.register("e", entity_rows.append_column("row", pa.array(range(len(entity_rows)))))
    return connection.execute(
        f"SELECT {', '.join(taken)} FROM (FROM e WHERE __at IS NOT NULL UNION ALL FROM e WHERE __at IS NULL) e "
        f"ASOF LEFT JOIN ({history}) v ON {same_keys}e.{known_by} >= v.{known} ORDER BY row"
    ).to_arrow_table()


@pytest.mark.parametrize("created", [None, "came_in"])
@pytest.mark.parametrize("ttl", [None, timedelta(minutes=50)])
@pytest.mark.parametrize("keys", [0, 1, 2])
def test_any_rows_get_what_an_asof_join_of_duckdb_gives_them(
    created: str | None, ttl: timedelta | None, keys: int
) -> None:
    random = np.random.default_rng(keys)
    rows, start = 3000, datetime(2024, 1, 1)

    def minutes(count: int, nulls: float) -> pl.Series:
        found = pl.Series([start + timedelta(minutes=int(minute)) for minute in random.integers(0, 2000, count)])
        return found.set(pl.Series(random.random(count) < nulls), None)

    def entities(count: int) -> dict[str, pl.Series]:
        letters = pl.Series(random.choice(["A", "B", "C"], count)).set(pl.Series(random.random(count) < 0.1), None)
        return {"letter": letters, "number": pl.Series(random.integers(0, 4, count))}

    history = pl.DataFrame(
        {**entities(rows), "read_at": minutes(rows, 0.05), "came_in": minutes(rows, 0.3)}
    ).with_columns(pl.Series("level", random.random(rows)), pl.Series("state", random.choice(["low", "high"], rows)))
    named = ["letter", "number"][:keys]
    version = [*named, "read_at", *([pl.coalesce("came_in", "read_at")] if created else [])]
    history = history.filter(~pl.struct(version).is_duplicated())
    asked = pl.DataFrame({**entities(rows), "__at": minutes(rows, 0.05), "until": minutes(rows, 0.0)})
    connection = duckdb.connect()
    connection.register("given", history.to_arrow())
    connection.execute("CREATE SCHEMA features; CREATE TABLE features.levels AS FROM given")
    view = FeatureTable(
        "features.levels", {key: key for key in named}, "read_at", created, ttl, {"level": "level", "state": "state"}
    )
    for known_by in ("__at", "until"):
        found = join(connection, view, asked.to_arrow(), known_by)
        expected = by_duckdb(connection, view, asked.to_arrow(), known_by)
        assert found.equals(expected)
        assert 0 < found["level"].null_count < rows


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
    assert identifier('say "hi"') == '"say ""hi"""'
    assert table_identifier('features.my "levels"') == '"features"."my ""levels"""'
    east = datetime(2024, 1, 1, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    assert instant(east) == instant(datetime(2024, 1, 1, 0, 30)) == "TIMESTAMP '2024-01-01 00:30:00'"
    assert instant(datetime(2024, 1, 1, 0, 30, tzinfo=UTC)) == "TIMESTAMP '2024-01-01 00:30:00'"
