"""What is in a table, column by column, as figures in the lake. How they are drawn is `profile_page`'s work.

Columns that begin with an underscore are ingestion's own and aren't profiled.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.tables.versions import KNOWN

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TOP = 5
_BINS = 30
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_FLOATS = {"FLOAT", "DOUBLE"}
_COLUMNS = (
    "schema_name VARCHAR, table_name VARCHAR, position INTEGER, column_name VARCHAR, type VARCHAR, rows BIGINT, "
    "nulls BIGINT, distinct_values BIGINT, min VARCHAR, max VARCHAR, mean DOUBLE, standard_deviation DOUBLE, "
    + ", ".join(f"q{round(quantile * 100):02d} DOUBLE" for quantile in QUANTILES)
    + ', top_values STRUCT("value" VARCHAR, "rows" BIGINT)[]'
)


@dataclass(frozen=True)
class Histogram:
    """Counts in bins of equal width from `low` to `high`; what lies beyond is counted in the first or last.

    Instants are in seconds since 1970 (UTC).
    """

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Column:
    """One column's figures. Mean, deviation and quantiles are of finite numbers; None where there are none."""

    name: str
    type: str
    rows: int
    nulls: int
    distinct: int
    min: str | None
    max: str | None
    mean: float | None
    deviation: float | None
    quantiles: tuple[float, ...] | None
    top: tuple[tuple[str, int], ...]
    histogram: Histogram | None = None

    @property
    def null_share(self) -> float:
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def is_number(self) -> bool:
        return _is_number(self.type)

    @property
    def is_whole(self) -> bool:
        return self.type in _INTEGERS

    @property
    def is_instant(self) -> bool:
        return _is_ordered(self.type) and not self.is_number


@dataclass(frozen=True)
class Table:
    """One table's columns, and Pearson's correlation of each pair of its columns of numbers, where it has one."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    correlations: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.columns[0].rows if self.columns else 0


@dataclass(frozen=True)
class TargetDay:
    """Labels of one day (UTC) of prediction times: how many are known, and their mean or each class's share."""

    day: str
    rows: int
    values: dict[str, float]


@dataclass(frozen=True)
class Profile:
    """All figures of one snapshot.

    Attributes:
        snapshot: The lake's, when it was read.
        tables: In the order asked for; those that the lake doesn't have are left out.
        target: The label over time; empty before there are labels.
    """

    snapshot: int
    tables: tuple[Table, ...]
    target: tuple[TargetDay, ...]


def measure(lake: Lake, problem: Problem, tables: Sequence[str]) -> Profile:
    """Profiles tables as they stand in the lake's newest snapshot.

    Args:
        lake: Where they are.
        problem: Names the labeled table, its label and its prediction time.
        tables: As `schema.table`.
    """
    with lake.reading() as connection:
        connection.execute("BEGIN")  # all that follows reads one snapshot
        snapshot = connection.execute("SELECT id FROM lake.current_snapshot()").fetchall()[0][0]
        there = {
            f"{schema}.{name}"
            for schema, name in connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'lake'"
            ).fetchall()
        }
        # Of a raw table, what is known: versions that have ended would count twice.
        shown = {table: table.replace("raw.", f"{KNOWN}.", 1) for table in tables if table.startswith("raw.")}
        sources = {table: shown[table] if shown.get(table) in there else table for table in tables if table in there}
        measured = tuple(_table(connection, table, source) for table, source in sources.items())
        target = _target(connection, problem) if problem.labeled_table in there else ()
    return Profile(snapshot, measured, target)


def keep(lake: Lake, profile: Profile, problem: Problem) -> str:
    """Replaces the problem's table `profile` where it differs; returns a name for the content (equal for equal)."""
    kept_in = problem.table("profile")
    rows = [
        (table.schema, table.name, position, column.name, column.type, column.rows, column.nulls, column.distinct)
        + (column.min, column.max, column.mean, column.deviation)
        + (column.quantiles or (None,) * len(QUANTILES))
        + ([{"value": value, "rows": count} for value, count in column.top],)
        for table in profile.tables
        for position, column in enumerate(table.columns, 1)
    ]
    with lake.writing() as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {problem.name}")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {kept_in} ({_COLUMNS})")
        kept = connection.execute(f"FROM {kept_in} ORDER BY schema_name, table_name, position").fetchall()
        if kept != sorted(rows, key=lambda row: row[:3]):
            connection.execute(f"DELETE FROM {kept_in}")
            connection.execute(f"CREATE TEMP TABLE fresh ({_COLUMNS})")
            connection.executemany(f"INSERT INTO fresh VALUES ({', '.join('?' * len(rows[0]))})", rows)
            connection.execute(f"INSERT INTO {kept_in} FROM fresh ORDER BY schema_name, table_name, position")
    return hashlib.sha256(repr((rows, profile.target)).encode()).hexdigest()[:16]


def _table(connection: duckdb.DuckDBPyConnection, table: str, read_from: str) -> Table:
    schema, name = table.split(".")
    source = ".".join(map(_quoted, read_from.split(".")))
    types = {
        row[0]: row[1] for row in connection.execute(f"DESCRIBE {source}").fetchall() if not row[0].startswith("_")
    }
    figures = _figures(connection, source, types)
    histograms = _histograms(connection, source, figures)
    columns = tuple(
        Column(**figure, **_values(connection, source, column), histogram=histograms.get(column))
        for column, figure in figures.items()
    )
    return Table(schema, name, columns, _correlations(connection, source, columns))


def _figures(connection: duckdb.DuckDBPyConnection, source: str, types: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What one pass over the table gives for all columns."""
    parts = ["count(*)"]
    for name, kind in types.items():
        number = _number(name, kind) if _is_number(kind) else "NULL::DOUBLE"
        parts += [
            f"count({_quoted(name)})",
            f"CAST(min({_quoted(name)}) AS VARCHAR)",
            f"CAST(max({_quoted(name)}) AS VARCHAR)",
            f"avg({number})",
            f"stddev_samp({number})",
            f"quantile_cont({number}, {list(QUANTILES)})",
        ]
    rows, *values = connection.execute(f"SELECT {', '.join(parts)} FROM {source}").fetchall()[0]
    figures = {}
    for place, (name, kind) in enumerate(types.items()):
        filled, low, high, mean, deviation, quantiles = values[place * 6 : place * 6 + 6]
        figures[name] = {
            "name": name,
            "type": kind,
            "rows": rows,
            "nulls": rows - filled,
            "min": low,
            "max": high,
            "mean": _rounded(mean),
            "deviation": _rounded(deviation),
            "quantiles": tuple(map(_rounded, quantiles)) if quantiles else None,
        }
    return figures


def _values(connection: duckdb.DuckDBPyConnection, source: str, name: str) -> dict[str, Any]:
    """Number of distinct values, and the most frequent ones; of equally frequent ones the lowest."""
    counted = f"SELECT {_quoted(name)} AS v, count(*) AS n FROM {source} WHERE v IS NOT NULL GROUP BY v"
    rows = connection.execute(
        f"WITH counted AS MATERIALIZED ({counted}) "
        f"SELECT CAST(v AS VARCHAR), n, (SELECT count(*) FROM counted) FROM counted ORDER BY n DESC, v LIMIT {_TOP}"
    ).fetchall()
    return {"distinct": rows[0][2] if rows else 0, "top": tuple((value, count) for value, count, _ in rows)}


def _histograms(
    connection: duckdb.DuckDBPyConnection, source: str, figures: dict[str, dict[str, Any]]
) -> dict[str, Histogram]:
    """Of all columns of numbers and instants, between their 1st and 99th percentile, in two passes."""
    columns = {name: _number(name, figure["type"]) for name, figure in figures.items() if _is_ordered(figure["type"])}
    if not columns:
        return {}
    ends = connection.execute(
        f"SELECT {', '.join(f'quantile_disc({number}, [0.01, 0.99])' for number in columns.values())} FROM {source}"
    ).fetchall()[0]
    bins: dict[str, tuple[float, float, int]] = {}
    for name, range_ in zip(columns, ends, strict=True):
        if range_ is None:
            continue
        low, high = range_
        if figures[name]["type"] in _INTEGERS:  # a bin holds whole numbers, equally many
            width = 1 if high - low < 2 * _BINS else math.ceil((high - low + 1) / _BINS)
            count = math.ceil((high - low + 1) / width)
            bins[name] = (low - 0.5, low - 0.5 + count * width, count)
        else:
            bins[name] = (low, high, _BINS) if high > low else (low - 0.5, low + 0.5, 1)
    if not bins:
        return {}
    places = []
    for name, (low, high, count) in bins.items():
        place = f"floor(({columns[name]} - {low!r}) / {(high - low) / count!r})"
        within = f"CAST(least(greatest({place}, 0), {count - 1}) AS INTEGER)"  # neither passes a NULL on
        places.append(f"histogram({within}) FILTER ({columns[name]} IS NOT NULL)")
    found = connection.execute(f"SELECT {', '.join(places)} FROM {source}").fetchall()[0]
    return {
        name: Histogram(low, high, tuple(counts.get(place, 0) for place in range(count)))
        for (name, (low, high, count)), counts in zip(bins.items(), found, strict=True)
    }


def _correlations(
    connection: duckdb.DuckDBPyConnection, source: str, columns: Sequence[Column]
) -> dict[tuple[str, str], float]:
    numbers = {c.name: _number(c.name, c.type) for c in columns if c.is_number and c.deviation}
    pairs = [(a, b) for i, a in enumerate(numbers) for b in list(numbers)[:i]]
    if not pairs:
        return {}
    parts = ", ".join(f"corr({numbers[a]}, {numbers[b]})" for a, b in pairs)
    found = connection.execute(f"SELECT {parts} FROM {source}").fetchall()[0]
    return {
        pair: value for pair, value in zip(pairs, found, strict=True) if value is not None and not math.isnan(value)
    }


def _target(connection: duckdb.DuckDBPyConnection, problem: Problem) -> tuple[TargetDay, ...]:
    label, day = _quoted(problem.label.column), f"CAST({_quoted(problem.prediction_time.column)} AS DATE)"
    source = f"FROM {problem.labeled_table} WHERE {label} IS NOT NULL"
    if problem.task == "multiclass":
        counted = connection.execute(
            f"SELECT {day} AS day, CAST({label} AS VARCHAR) AS class, count(*) {source} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        days: dict[Any, dict[str, int]] = {}
        for at, name, count in counted:
            days.setdefault(at, {})[name] = count
        return tuple(
            TargetDay(str(at), sum(counts.values()), {name: n / sum(counts.values()) for name, n in counts.items()})
            for at, counts in days.items()
        )
    daily = f"SELECT {day} AS day, count(*), avg(CAST({label} AS DOUBLE)) {source} GROUP BY ALL ORDER BY ALL"
    return tuple(
        TargetDay(str(at), rows, {problem.label.column: _rounded(mean) or 0.0})
        for at, rows, mean in connection.execute(daily).fetchall()
    )


def _is_number(kind: str) -> bool:
    return kind in _INTEGERS | _FLOATS or kind.startswith("DECIMAL")


def _is_ordered(kind: str) -> bool:
    return _is_number(kind) or kind == "DATE" or kind.startswith("TIMESTAMP")


def _number(name: str, kind: str) -> str:
    """SQL for a column as a finite DOUBLE; instants in seconds since 1970."""
    if kind in _FLOATS:
        return f"CASE WHEN isfinite({_quoted(name)}) THEN CAST({_quoted(name)} AS DOUBLE) END"
    return f"CAST({_quoted(name)} AS DOUBLE)" if _is_number(kind) else f"epoch({_quoted(name)})"


def _rounded(value: float | None) -> float | None:
    """To ten digits: threads add up in any order, and a profile of the same rows is to be the same."""
    return None if value is None else float(f"{value:.10g}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
