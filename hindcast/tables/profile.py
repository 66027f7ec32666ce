"""What is in a table, column by column: its figures, kept in the lake, and a sample of its rows.

Columns that begin with an underscore are ingestion's own and aren't profiled. The page is `profile_page`'s work.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake, columns_of, current_snapshot, has_table
from hindcast.problem import Problem
from hindcast.sql import identifier, table_identifier
from hindcast.tables.raw_tables import KNOWN

SAMPLE_ROWS = 10_000
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
_TOP = 5
_NUMBER = r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)"


@dataclass(frozen=True)
class Profile:
    """Tables as they were at one snapshot.

    Attributes:
        snapshot: The lake's.
        figures: The rows of the problem's `profile`, one per column of each table that the lake has: `mean`,
            `standard_deviation` and the quantiles are of finite numbers, null where there are none; `top_values` are
            the most frequent, of equally frequent ones the lowest.
        samples: At most 10,000 rows of each table, chosen by a hash of their content: always the same.
        target: The labels of one day (UTC) of prediction times per row: `day`, `rows` (how many are known), then their
            mean, or the share of each class. Empty before there are labels.
    """

    snapshot: int
    figures: pl.DataFrame
    samples: dict[str, pl.DataFrame]
    target: pl.DataFrame

    def rows(self, table: str) -> int:
        """Of a table (`schema.table`), all of them."""
        return int(self.columns(table)["rows"].to_list()[0])

    def columns(self, table: str) -> pl.DataFrame:
        """The figures of a table (`schema.table`)."""
        schema, name = table.split(".")
        return self.figures.filter(schema_name=schema, table_name=name)


def measure(lake: Lake, problem: Problem, tables: Sequence[str]) -> Profile:
    """Profiles tables as they stand in the lake's newest snapshot.

    Args:
        lake: Where they are.
        problem: Names the labeled table, its label and its prediction time.
        tables: As `schema.table`.
    """
    with lake.reading() as connection:
        connection.execute("BEGIN")  # all that follows reads one snapshot
        figures, samples = [], {}
        for table in tables:
            if not has_table(connection, table):
                continue
            # Of a raw table, what is known: versions that have ended would count twice.
            known = table.replace("raw.", f"{KNOWN}.", 1)
            read_from = table_identifier(known if has_table(connection, known) else table)
            connection.execute(f"CREATE OR REPLACE TEMP TABLE profiled AS FROM {read_from}")  # read once
            columns = {
                name: kind for name, kind in columns_of(connection, "profiled").items() if not name.startswith("_")
            }
            figures += [
                _column(connection, table, position, *column) for position, column in enumerate(columns.items(), 1)
            ]
            shown = ", ".join(_plain(*column) for column in columns.items())
            sample = f"SELECT {shown} FROM profiled AS t ORDER BY hash(t) LIMIT {SAMPLE_ROWS}"
            samples[table] = connection.execute(sample).pl()
        target = _target(connection, problem) if has_table(connection, problem.labeled_table) else pl.DataFrame()
        return Profile(current_snapshot(connection), pl.concat(figures), samples, target)


def keep(lake: Lake, profile: Profile, problem: Problem) -> str:
    """Replaces the problem's table `profile` where it differs; returns a name for the content (equal for equal)."""
    table = problem.table("profile")
    with lake.writing() as connection:
        connection.register("figures", profile.figures.to_arrow())
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {problem.name}")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS FROM figures LIMIT 0")
        kept, found = f"FROM {table}", "FROM figures"
        if connection.execute(f"({kept} EXCEPT {found}) UNION ALL ({found} EXCEPT {kept}) LIMIT 1").fetchall():
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} {found}")
    return fingerprint(values=[profile.figures.rows(), profile.target.rows()])


def _plain(name: str, kind: str) -> str:
    """SQL of a column in a type that every library takes."""
    column = identifier(name)
    if kind.startswith("DECIMAL(") and re.fullmatch(_NUMBER, kind):
        return f"{column}::DOUBLE AS {column}"
    is_plain = re.fullmatch(rf"{_NUMBER}|VARCHAR|BOOLEAN|DATE|TIMESTAMP(_\w+| WITH TIME ZONE)?", kind)
    return column if is_plain else f"{column}::VARCHAR AS {column}"


def _column(connection: duckdb.DuckDBPyConnection, table: str, position: int, name: str, kind: str) -> pl.DataFrame:
    """One row of the problem's `profile`, of a column of the temporary table `profiled`."""
    number = "CASE WHEN isfinite(v::DOUBLE) THEN v::DOUBLE END" if re.fullmatch(_NUMBER, kind) else "NULL::DOUBLE"
    quantiles = ", ".join(f"q[{place}] AS {called}" for place, called in enumerate(QUANTILES, 1))
    schema, called = table.split(".")
    found = connection.execute(
        f"""
        WITH numbered AS (SELECT {identifier(name)} AS v, {number} AS n FROM profiled),
        counted AS MATERIALIZED (SELECT v, count(*) AS "rows" FROM numbered WHERE v IS NOT NULL GROUP BY v),
        top AS (SELECT v::VARCHAR AS "value", "rows" FROM counted ORDER BY "rows" DESC, v LIMIT {_TOP})
        SELECT $schema AS schema_name, $table AS table_name, $position::INTEGER AS position, $name AS column_name,
            $kind AS type, count(*) AS "rows", count(*) - count(v) AS nulls,
            (SELECT count(*) FROM counted) AS distinct_values, min(v)::VARCHAR AS min, max(v)::VARCHAR AS max,
            avg(n) AS mean, stddev_samp(n) AS standard_deviation,
            quantile_cont(n, {list(QUANTILES.values())}) AS q, {quantiles},
            (SELECT coalesce(list(top), []) FROM top) AS top_values
        FROM numbered
        """,
        {"schema": schema, "table": called, "position": position, "name": name, "kind": kind},
    ).pl()
    # Threads add up in any order, and a profile of the same rows is to be the same.
    return found.drop("q").with_columns(pl.col(pl.Float64).round_sig_figs(10))


def _target(connection: duckdb.DuckDBPyConnection, problem: Problem) -> pl.DataFrame:
    label, day = identifier(problem.label.column), f"CAST({identifier(problem.prediction_time.column)} AS DATE)"
    of = f"FROM {table_identifier(problem.labeled_table)} WHERE {label} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    if not problem.label.classes:
        found = connection.execute(f"SELECT {day} AS day, count(*) AS rows, avg({label}::DOUBLE) AS {label} {of}").pl()
        return found.with_columns(pl.col(pl.Float64).round_sig_figs(10))
    counted = connection.execute(f"SELECT {day} AS day, {label}::VARCHAR AS class, count(*) AS n {of}").pl()
    counted = counted.with_columns(rows=pl.col("n").sum().over("day"))
    shares = counted.with_columns(share=pl.col("n") / pl.col("rows"))
    return shares.pivot("class", index=["day", "rows"], values="share").fill_null(0.0)
