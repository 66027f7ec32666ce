"""The form of a raw table: its columns by what they are for, and the view of what is known of it.

A row of `raw.<table>` is one version: it is what was known from `_known_at` until `_known_until` (excluded; NULL while
it is the known one). `_row_known_at` is since when the row itself is known, in whatever version. What a delivery does
to the versions is `versions`' work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from hindcast.sources import SourceTable
from hindcast.sql import identifier
from hindcast.tables.windows import CAP, INSTANTS

KNOWN = "known"
"""The schema of views that show the raw tables as known at the control instants. dbt reads these: macros/known.sql."""


@dataclass(frozen=True)
class Changes:
    """What a delivery changed, in rows.

    Attributes:
        added: Rows that had never been delivered.
        corrected: Rows whose content was replaced by another; the old one stays as a version that has ended.
        completed: Rows of which a group of columns became known.
        withdrawn: Rows that a whole delivery no longer holds.
        returned: Withdrawn rows that were delivered again; they count as known since they were first known.
    """

    added: int = 0
    corrected: int = 0
    completed: int = 0
    withdrawn: int = 0
    returned: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())


@dataclass(frozen=True)
class RawColumns:
    """The columns of a raw table by what they are for. Names are quoted.

    Attributes:
        identity: Names the row: the declared key, else all columns that are known with the row itself.
        own: What becomes known with the row itself.
        groups: What becomes known later, by the column of the instant.
    """

    identity: tuple[str, ...]
    own: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, declared: SourceTable) -> "RawColumns":
        groups = {
            f"_{name}_known_at": tuple(map(identifier, group.columns)) for name, group in declared.known.later.items()
        }
        later = {column for columns in groups.values() for column in columns}
        own = tuple(column for column in map(identifier, declared.columns) if column not in later)
        return cls(tuple(map(identifier, declared.key)) or own, own, groups)

    @property
    def content(self) -> list[str]:
        """SQL of what a version says; when it became known is no part of it, but whether a group is known is."""
        later = [column for columns in self.groups.values() for column in columns]
        return [*self.own, *later, *(f"{instant} IS NOT NULL" for instant in self.groups)]

    def match(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{column} IS NOT DISTINCT FROM {other}.{column}" for column in self.identity)

    def agree(self, new: str, old: str) -> str:
        """SQL: a delivered row says what the old one says. What the old one doesn't know yet isn't compared."""
        parts = [equal(self.own, new, old)]
        parts += [
            f"({old}.{instant} IS NULL OR ({new}.{instant} IS NOT NULL AND {equal(columns, new, old)}))"
            for instant, columns in self.groups.items()
        ]
        return " AND ".join(parts)

    def completes(self, new: str, old: str) -> str:
        """SQL: a delivered row knows a group that the old one doesn't."""
        each = [f"({old}.{instant} IS NULL AND {new}.{instant} IS NOT NULL)" for instant in self.groups]
        return f"({' OR '.join(each) or 'false'})"


def equal(columns: tuple[str, ...], one: str, other: str) -> str:
    sides = [f"row({', '.join(f'{side}.{column}' for column in columns)})" for side in (one, other)]
    return f"({' IS NOT DISTINCT FROM '.join(sides)})" if columns else "true"


def create(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable) -> None:
    """Makes an empty `raw.<table>` of the columns of the temporary table `fresh`."""
    name = f"raw.{identifier(table)}"
    connection.execute(
        f"CREATE TABLE {name} AS SELECT *, _known_at AS _row_known_at, CAST(NULL AS TIMESTAMP) AS _known_until "
        "FROM fresh WHERE false"
    )
    if declared.month:
        connection.execute(f"ALTER TABLE {name} SET PARTITIONED BY (_month)")


def show_known(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable) -> None:
    """Makes the view `known.<table>`: the versions that were known at the instant that `control.instants` has for the
    table, without what became known of them later. Where there is no such instant yet, all that is known.

    Its `_known_at` is since when the row itself is known: a corrected hour of the past is no news of the present.
    """
    instants = f"SELECT min(i.\"at\") FROM lake.{INSTANTS} i WHERE i.name IN ('raw.{table}', '{CAP}')"
    at = f"coalesce(({instants}), CAST('infinity' AS TIMESTAMP))"
    later = {
        column: instant for instant, columns in RawColumns.of(declared).groups.items() for column in (*columns, instant)
    }
    replaced = ["_row_known_at AS _known_at"]
    replaced += [f"CASE WHEN {instant} <= {at} THEN {column} END AS {column}" for column, instant in later.items()]
    columns = f"* EXCLUDE (_row_known_at, _known_until) REPLACE ({', '.join(replaced)})"
    select = (
        f"SELECT {columns} FROM lake.raw.{identifier(table)} "
        f"WHERE _known_at <= {at} AND (_known_until IS NULL OR _known_until > {at})"
    )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {KNOWN}")
    connection.execute(f"CREATE OR REPLACE VIEW {KNOWN}.{identifier(table)} AS {select}")


def month_condition(months: Sequence[date | None] | None) -> str:
    """A condition on `_month`; None means every one."""
    if months is None:
        return "true"
    each = " OR ".join(f"_month = DATE '{month}'" for month in months)
    return f"({each})" if months else "false"


def plain_name(name: str) -> str:
    return name.replace('"', "").removeprefix("raw.")
