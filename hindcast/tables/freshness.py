"""Finds the seeds, models and tests of the SQL that are up to date and needn't be run again.

One is up to date while its SQL is the same and nothing has become known of what it is made from. What reads the clock
or the windows (`control`), or nothing that dbt knows of, never is: it may change by itself. How entries come about is
described in `dbt_project/macros/increments.sql`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from hindcast.lake import Lake, has_table
from hindcast.sql import identifier
from hindcast.tables.windows import BUILT_UNTIL, INSTANTS, known_until

_TABLES = {"model", "seed", "snapshot"}


@dataclass(frozen=True)
class UpToDate:
    """What is up to date, and how much there is to do.

    Attributes:
        skipped: Unique ids of the asked seeds, models and tests that are up to date.
        news: Rows that have become known since the others were built; None where a table must be rebuilt.
    """

    skipped: set[str]
    news: int | None


def find_up_to_date(
    lake: Lake, described: dict[str, Any], sql_versions: dict[str, str], asked: Collection[str]
) -> UpToDate:
    """Finds what needn't be run, and lets its entries say that it holds until now.

    Args:
        lake: With the entries, the clock and the raw tables.
        described: dbt's manifest.
        sql_versions: Per node, of the SQL that would be run.
        asked: Unique ids of what is to be run.
    """
    with lake.writing() as connection:
        if not has_table(connection, BUILT_UNTIL):
            return UpToDate(set(), None)
        entries = read_entries(connection, sql_versions)
        forget_missing_tables(connection, described["nodes"], entries)
        instants: dict[str, datetime] = dict(connection.execute(f'SELECT name, "at" FROM {INSTANTS}').fetchall())
        made_from_raw = raw_tables(described)

        def now(unique_id: str) -> datetime:
            return known_until(made_from_raw.get(unique_id, set()), instants)

        newest = _Newest(connection, described["sources"])
        found = dict.fromkeys(described["unit_tests"], True)

        def made_from(unique_id: str) -> list[str]:
            """Its parents; of what has no table, that is a part of its SQL, theirs."""
            parents = []
            for parent in described["nodes"][unique_id]["depends_on"].get("nodes", []):
                parents += made_from(parent) if _materialized(described, parent) == "ephemeral" else [parent]
            return parents

        def holds(unique_id: str) -> bool:
            if unique_id not in found:
                until = entries.get(unique_id)
                found[unique_id] = until is not None and until <= now(unique_id) and nothing_new(unique_id, until)
            return found[unique_id]

        def nothing_new(unique_id: str, until: datetime) -> bool:
            node, parents = described["nodes"][unique_id], made_from(unique_id)
            sources = [parent for parent in parents if parent in described["sources"]]
            control = [source for source in sources if described["sources"][source]["schema"] == "control"]
            # Rows that were known by a clock are known by a later one.
            clock_matters = (node.get("test_metadata") or {}).get("name") != "rows_hold"
            if (control and clock_matters) or not (parents or node["resource_type"] == "seed"):
                return False
            return all(
                holds(parent) and entries[parent] <= until for parent in parents if parent not in sources
            ) and all(newest.row(source) <= until for source in sources if source not in control)

        same = {unique_id for unique_id in entries if holds(unique_id)}
        older = {unique_id: now(unique_id) for unique_id in sorted(same) if entries[unique_id] < now(unique_id)}
        for instant in sorted(set(older.values())):
            connection.execute(
                f"UPDATE {BUILT_UNTIL} SET known_until = ? WHERE node IN (SELECT unnest(?))",
                [instant, [unique_id for unique_id, until in older.items() if until == instant]],
            )
        updated = [name for name in asked if name not in same and _materialized(described, name) == "incremental"]
        rebuilt = any(name not in entries or entries[name] > now(name) for name in updated)
        news = None if rebuilt or not updated else newest.count_since(min(entries[name] for name in updated))
    return UpToDate(same.intersection(asked), news)


def read_entries(connection: duckdb.DuckDBPyConnection, sql_versions: dict[str, str]) -> dict[str, datetime]:
    """Per node that was built by the SQL of these versions, until when (UTC, without a zone) it holds all."""
    rows = connection.execute(f"SELECT node, sql_version, max(known_until) FROM {BUILT_UNTIL} GROUP BY ALL").fetchall()
    return {node: until for node, version, until in rows if version == sql_versions.get(node)}


def raw_tables(described: dict[str, Any]) -> dict[str, set[str]]:
    """Per node of dbt's manifest the raw tables that it is made from, directly or not."""
    found: dict[str, set[str]] = {}
    nodes = {**described["nodes"], **described["unit_tests"]}

    def tables(unique_id: str) -> set[str]:
        if unique_id in described["sources"]:
            source = described["sources"][unique_id]
            return {source["identifier"]} if source["schema"] == "raw" else set()
        if unique_id not in found:
            parents = nodes.get(unique_id, {}).get("depends_on", {}).get("nodes", [])
            found[unique_id] = set().union(*map(tables, parents))
        return found[unique_id]

    for unique_id in nodes:
        tables(unique_id)
    return found


class _Newest:
    """When something was last heard in a source."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, sources: dict[str, Any]) -> None:
        self._connection, self._sources = connection, sources
        self._rows: dict[str, datetime] = {}

    def row(self, source: str) -> datetime:
        """The instant at which its newest row became known; the end of time where the table doesn't say."""
        if source not in self._rows:
            self._rows[source] = self._read(self._sources[source])
        return self._rows[source]

    def count_since(self, instant: datetime) -> int:
        """Rows of all sources that became known later."""
        return sum(
            self._connection.execute(
                f"SELECT count(*) FROM {_table(source)} WHERE _known_at > ?", [instant]
            ).fetchall()[0][0]
            for source in self._sources.values()
            if "_known_at" in self._instants(source)
        )

    def _read(self, source: dict[str, Any]) -> datetime:
        columns = self._instants(source)
        if not columns:
            return datetime.max
        instants = ", ".join(f"max({identifier(column)})" for column in columns)
        select = f"SELECT greatest({instants}) FROM {_table(source)}"
        newest: datetime | None = self._connection.execute(select).fetchall()[0][0]
        return newest or datetime.min

    def _instants(self, source: dict[str, Any]) -> list[str]:
        """The columns that say when something in a row became known."""
        found = self._connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = ? "
            "AND table_name = ? AND regexp_matches(column_name, '^_(.*_)?known_(at|until)$')",
            [source["schema"], source["identifier"]],
        ).fetchall()
        return [column for (column,) in found]


def _table(source: dict[str, Any]) -> str:
    return f"{identifier(source['schema'])}.{identifier(source['identifier'])}"


def _materialized(described: dict[str, Any], unique_id: str) -> str | None:
    materialized: str | None = described["nodes"].get(unique_id, {}).get("config", {}).get("materialized")
    return materialized


def forget_missing_tables(
    connection: duckdb.DuckDBPyConnection, nodes: dict[str, Any], entries: dict[str, datetime]
) -> None:
    """A table that is gone holds nothing: its entry goes."""
    there = set(
        connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'lake' "
            "UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'lake'"
        ).fetchall()
    )
    missing = [
        unique_id
        for unique_id, node in nodes.items()
        if unique_id in entries and node["resource_type"] in _TABLES and (node["schema"], node["alias"]) not in there
    ]
    if missing:
        connection.execute(f"DELETE FROM {BUILT_UNTIL} WHERE node IN (SELECT unnest(?))", [missing])
        for unique_id in missing:
            del entries[unique_id]
