"""The rows that could not be read: keeps them in `raw.rejected`, and lists and explains them. `ingest` finds them."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from hindcast.checks import explain, rows
from hindcast.lake import Lake
from hindcast.sources import SourceTable
from hindcast.sql import text_literal
from hindcast.tables.readers import append, row_texts

REJECTED = "raw.rejected"
_COLUMNS = "table_name VARCHAR, source_file VARCHAR, line BIGINT, column_name VARCHAR, reason VARCHAR, text VARCHAR"
_MOST = 3


@dataclass(frozen=True)
class Rejected:
    """One line of a source file that isn't a row of its table.

    Attributes:
        table: Without the schema.
        file: As rows name it in `_source_file`.
        line: Its number in the file.
        column: The columns at fault; None where it isn't one's.
        reason: Why, all reasons.
        text: The line as it stands in the file; None where it can't be shown.
    """

    table: str
    file: str
    line: int
    column: str | None
    reason: str
    text: str | None


def collect_rejects(
    connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable, paths: dict[str, Path], scratch: Path
) -> None:
    """Makes `rejects` of `faults`: one row per rejected line, with all reasons and its text."""
    connection.execute("CREATE TEMP TABLE texts (file VARCHAR, line BIGINT, text VARCHAR)")
    for file, path in paths.items():
        found = connection.execute("SELECT DISTINCT line FROM faults WHERE file = ?", [file]).fetchall()
        if found:
            texts = row_texts(connection, path, declared, {line for (line,) in found}, scratch)
            select = "SELECT ?, unnest(?::BIGINT[]), unnest(?::VARCHAR[])"
            append(connection, "texts", select, [file, list(texts), list(texts.values())])
    connection.execute(
        """
        CREATE TEMP TABLE rejects AS
        SELECT
            ? AS table_name,
            file AS source_file,
            line,
            string_agg(DISTINCT column_name, ', ' ORDER BY column_name) AS column_name,
            string_agg(DISTINCT reason, '; ' ORDER BY reason) AS reason,
            any_value(text) AS text
        FROM faults LEFT JOIN texts USING (file, line)
        GROUP BY file, line
        """,
        [table],
    )


def replace_rejected(connection: duckdb.DuckDBPyConnection, table: str, clock: datetime) -> bool:
    connection.execute(f"CREATE TABLE IF NOT EXISTS {REJECTED} ({_COLUMNS}, _ingested_at TIMESTAMP)")
    there = f"(SELECT * EXCLUDE _ingested_at FROM {REJECTED} WHERE table_name = {text_literal(table)})"
    gone, new = f"(FROM {there} EXCEPT FROM rejects)", f"(FROM rejects EXCEPT FROM {there})"
    if not connection.execute(f"FROM {gone} UNION ALL FROM {new} LIMIT 1").fetchall():
        return False
    connection.execute(f"DELETE FROM {REJECTED} WHERE table_name = ?", [table])
    connection.execute(f"INSERT INTO {REJECTED} SELECT *, ? FROM rejects ORDER BY source_file, line", [clock])
    return True


def list_rejected(lake: Lake, table: str | None = None, limit: int | None = None) -> list[Rejected]:
    """Rejected rows in the order of tables, files and lines.

    Args:
        lake: That holds them.
        table: Only this one's; None for all.
        limit: The first so many; None for all.
    """
    if not lake.exists(REJECTED):
        return []
    with lake.reading() as connection:
        found = connection.execute(
            f"SELECT table_name, source_file, line, column_name, reason, text FROM {REJECTED} "
            "WHERE $table IS NULL OR table_name = $table ORDER BY table_name, source_file, line"
            + (f" LIMIT {int(limit)}" if limit is not None else ""),
            {"table": table},
        ).fetchall()
    return [Rejected(*row) for row in found]


def count_reasons(lake: Lake, table: str | None = None) -> dict[str, int]:
    """How many rows were rejected for each reason (of one table, or of all), the most frequent first.

    A reason names the columns and leaves out the values, by which no two rows may be alike.
    """
    if not lake.exists(REJECTED):
        return {}
    with lake.reading() as connection:
        found = connection.execute(
            "SELECT concat_ws(': ', column_name, regexp_replace(reason, '\".*?\" is not ', 'not ', 'gs')) AS why, "
            f"count(*) FROM {REJECTED} WHERE $table IS NULL OR table_name = $table "
            "GROUP BY why ORDER BY count(*) DESC, why",
            {"table": table},
        ).fetchall()
    return dict(found)


def shown_reasons(counts: dict[str, int]) -> str:
    """The most frequent reasons with their counts, in one line."""
    shown = [f"{reason} ({count:,})" for reason, count in list(counts.items())[:_MOST]]
    more = sum(counts.values()) - sum(list(counts.values())[:_MOST])
    return "; ".join([*shown, f"{more:,} more for other reasons"] if more else shown)


def explain_rejected(lake: Lake, table: str, read: int, limit: float, sources: str) -> str:
    """How many of a table's rows were rejected, why, and how to list them.

    Args:
        lake: That holds them.
        table: Its name, without the schema.
        read: How many rows its files have.
        limit: The share of them beyond which nothing goes on.
        sources: Name of the declaration, which holds the limit.
    """
    counts = count_reasons(lake, table)
    rejected = sum(counts.values())
    if not rejected:
        return f"No row of {read:,} was rejected (limit {limit:.2%})."
    found = f"{rows(rejected)} of {read:,} rejected, {rejected / max(read, 1):.2%} (limit {limit:.2%})"
    example = list_rejected(lake, table, 1)[0]
    return explain(
        found,
        shown_reasons(counts),
        f"e.g. line {example.line} of {example.file}; `hindcast rejected {table}` lists them",
        f"problems/sources/{sources}.yaml: tables.{table}.max_rejected_share and columns",
    )
