"""Reads source files into the raw tables, as they were known at an instant. Nothing is cleaned here.

A row that can't be read goes to `raw.rejected`. How files are read is in `readers`; what they and their
columns mean is declared in `sources`.
"""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake, columns_of, has_table
from hindcast.settings import Settings
from hindcast.sources import Lookup, Sources, SourceTable
from hindcast.sql import identifier, identifiers, without_zone
from hindcast.tables.raw_tables import Changes, create, month_condition, show_known
from hindcast.tables.readers import append, read_files
from hindcast.tables.rejected import collect_rejects, replace_rejected
from hindcast.tables.versions import update
from hindcast.tables.windows import create_tables, note_ingested, read_ingested

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}


@dataclass(frozen=True)
class IngestResult:
    """What one ingestion of a table did.

    Attributes:
        table: Its name, without the schema.
        files: The files that were read, as rows name them in `_source_file`.
        rows_read: Data rows in these files, rejected ones included.
        rejected: Of these, rows that now stand in `raw.rejected`.
        not_yet_known: Of these, rows of the asked months that are left out because they lie after the clock.
        rows: Rows of the asked months that the files hold and that are known (all rows where the table has no months).
        rows_in_table: Rows of the whole table that are known now; versions that have ended don't count.
        undeclared: Columns of the files that the declaration doesn't name; they weren't read.
        changes: Rows that were added, corrected, completed, withdrawn, returned.
        changed: Whether rows, or rejected rows, were written.
        data_version: Names the whole table's content; equal for equal content in any home.
    """

    table: str
    files: tuple[str, ...]
    rows_read: int
    rejected: int
    not_yet_known: int
    rows: int
    rows_in_table: int
    undeclared: tuple[str, ...]
    changes: Changes
    changed: bool
    data_version: str

    @property
    def rejected_share(self) -> float:
        return self.rejected / self.rows_read if self.rows_read else 0.0


def ingest(
    lake: Lake,
    sources: Sources,
    table: str,
    now: datetime,
    settings: Settings,
    months: list[date] | None = None,
    made_from_it: Collection[str] | None = None,
) -> IngestResult:
    """Takes the files as a delivery at an instant: brings `raw.<table>` to what they say, in one snapshot.

    The files are read once, however many months are asked for. What was delivered before stays as a version
    (`hindcast.tables.versions`); rows that are delivered again as they were change nothing. Rejected rows of the
    table are replaced as a whole. A delivery older than the one before, of the same months, changes nothing.

    Args:
        lake: Where the table goes.
        sources: The declaration.
        table: Its name there.
        now: The clock. Rows known later are left out, and columns known later are NULL.
        settings: Where scratch files may lie, and the checkout.
        months: First days of the months (UTC) that the delivery is about; None for all. One to a table without
            months is always about all of it.
        made_from_it: dbt's nodes that are made from the table, which may have to be made afresh; None for all.

    Raises:
        HindcastError: A file is missing, unreadable or without a declared column; an expression of the
            declaration fails; or the table in the lake was made with other columns.
    """
    if now.tzinfo is None:
        raise HindcastError(f"Ingestion needs a clock with a time zone, not {now.isoformat()}.")
    declared = sources.tables.get(table)
    if declared is None:
        raise HindcastError(f"The sources declare no table {table}; there are: {', '.join(sources.tables)}.")
    clock = without_zone(now)
    paths = sources.files(table, settings.root)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.scratch, prefix="ingest-") as folder, lake.writing() as connection:
        scratch = Path(folder)
        undeclared = read_files(connection, paths, declared, scratch)
        _type_rows(connection, table, declared)
        _place_rows(connection, table, declared, clock)
        _check_keys(connection, declared)
        collect_rejects(connection, table, declared, paths, scratch)
        asked: list[date | None] = [*(sources.months(now) if months is None else months)] if declared.month else [None]
        within = month_condition(asked if declared.month and months is not None else None)
        _select_known(connection, declared, clock, within)
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        create_tables(connection)
        changed = replace_rejected(connection, table, clock)
        changes = _update_rows(connection, table, declared, clock, asked, within, made_from_it)
        name = f"raw.{identifier(table)}"
        form = list(columns_of(connection, name).items())
        columns = identifiers(column for column, _ in form if column != "_ingested_at")
        in_table, content = connection.execute(
            f"SELECT count(*), sum(CAST(hash({columns}) AS HUGEINT)) FROM {name}"  # in any order
        ).fetchall()[0]
        read, rejected, late, rows, known = connection.execute(
            f"""
            SELECT
                (SELECT count(DISTINCT (file, line)) FROM faults) + (SELECT count(*) FROM placed WHERE NOT _faulty),
                (SELECT count(*) FROM rejects),
                (SELECT count(*) FROM placed WHERE NOT _faulty AND _known_at > ? AND {within}),
                (SELECT count(*) FROM fresh),
                (SELECT count(*) FROM {name} WHERE _known_until IS NULL)
            """,
            [clock],
        ).fetchall()[0]
    return IngestResult(
        table=table,
        files=tuple(paths),
        rows_read=read,
        rejected=rejected,
        not_yet_known=late,
        rows=rows,
        rows_in_table=known,
        undeclared=undeclared,
        changes=changes,
        changed=changed or bool(changes),
        data_version=fingerprint(values=[form, in_table, content]),
    )


def _execute(connection: duckdb.DuckDBPyConnection, sql: str, what: str) -> list[tuple[Any, ...]]:
    """Runs SQL that holds parts of the declaration; a failure is the declaration's."""
    try:
        return connection.execute(sql).fetchall()
    except duckdb.Error as error:
        raise HindcastError(f"{what}: {str(error).splitlines()[0]}") from error


def _type_rows(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable) -> None:
    """Makes `typed` of `read_rows`. A cell that can't be had without loss makes its row faulty."""
    nothing = ", ".join(f"CAST(NULL AS {kind}) AS {identifier(name)}" for name, kind in declared.columns.items())
    described = _execute(connection, f"DESCRIBE SELECT {nothing}", f"raw.{table} has a column type that fails")
    staged = columns_of(connection, "read_rows")
    values, faults = [], {}
    for name, kind, *_ in described:
        column = identifier(name)
        if staged[name] == kind:
            values.append(column)
            continue
        # A plain cast to TIMESTAMP drops an offset; by way of TIMESTAMPTZ it is reckoned in (the session is in UTC).
        through = f"CAST({column} AS TIMESTAMPTZ)" if kind == "TIMESTAMP" else column
        value = f"TRY(CAST({through} AS {kind}))" if kind == "TIMESTAMP" else f"TRY_CAST({column} AS {kind})"
        values.append(f"{value} AS {column}")
        lost = "false"
        if kind in _INTEGERS:
            lost = f"TRY_CAST({column} AS DOUBLE) <> {value}"  # a cast rounds
        elif kind == "DATE":
            lost = f"TRY_CAST({column} AS TIMESTAMP) <> {value}"  # a cast drops the time
        faults[name] = f"coalesce({column} IS NOT NULL AND ({value} IS NULL OR {lost}), false)"
    faulty = " OR ".join(faults.values()) or "false"
    connection.execute(
        f"CREATE TEMP TABLE typed AS SELECT _file, _line, {', '.join(values)}, {faulty} AS _faulty FROM read_rows"
    )
    if connection.execute("SELECT 1 FROM typed WHERE _faulty LIMIT 1").fetchall():
        for name, fault in faults.items():
            reason = f"""'"' || {identifier(name)} || '" is not ' || ?"""
            select = f"SELECT _file, _line, ?, {reason} FROM read_rows WHERE {fault}"
            append(connection, "faults", select, [name, declared.columns[name]])


def _place_rows(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable, clock: datetime) -> None:
    """Makes `placed` of `typed`: readable rows with their month and the instants at which they become known."""
    rows = "(SELECT * EXCLUDE _faulty FROM typed WHERE NOT _faulty)"
    for name, lookup in declared.lookups.items():
        rows = _looked_up(connection, rows, table, name, lookup)
    for name, expression in declared.derived.items():
        rows = f"(SELECT *, TRY({expression}) AS {name} FROM {rows})"
    at = declared.known.at or f"TIMESTAMP '{clock}'"
    instants, faults = {"_known_at": f"CAST(TRY({at}) AS TIMESTAMP)"}, {"_known_at IS NULL": "known.at has no value"}
    if declared.month:
        instants["_month"] = f"CAST(date_trunc('month', CAST(TRY({declared.month}) AS TIMESTAMP)) AS DATE)"
        faults["_month IS NULL"] = "month has no value"
    for name, group in declared.known.later.items():
        instants[f"_{name}_known_at"] = f"CAST(TRY({group.at}) AS TIMESTAMP)"
        filled = " OR ".join(f"{identifier(column)} IS NOT NULL" for column in group.columns)
        reason = f"known.later.{name}.at has no value, while there is one in {', '.join(group.columns)}"
        faults[f"_{name}_known_at IS NULL AND ({filled})"] = reason
    columns = ["_file", "_line", *map(identifier, declared.columns)]
    columns += [f"{expression} AS {name}" for name, expression in instants.items()]
    faulty = " OR ".join(f"({fault})" for fault in faults)
    _execute(
        connection,
        f"CREATE TEMP TABLE placed AS SELECT *, {faulty} AS _faulty FROM (SELECT {', '.join(columns)} FROM {rows})",
        f"The declaration of raw.{table} has an expression that fails",
    )
    for fault, reason in faults.items():
        append(connection, "faults", f"SELECT _file, _line, NULL, ? FROM placed WHERE _faulty AND {fault}", [reason])


def _looked_up(connection: duckdb.DuckDBPyConnection, rows: str, table: str, name: str, lookup: Lookup) -> str:
    other = f"(FROM raw.{identifier(lookup.table)} WHERE _known_until IS NULL)"
    keys = ", ".join(map(identifier, lookup.match))
    twice = _execute(
        connection,
        f"SELECT {keys} FROM {other} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1",
        f"raw.{table} looks up raw.{lookup.table}, which is to be ingested before",
    )
    if twice:
        raise HindcastError(
            f"raw.{table}: lookup {name} finds {keys} = {twice[0]} more than once in raw.{lookup.table}."
        )
    match = " AND ".join(f"l.{identifier(there)} = t.{identifier(here)}" for there, here in lookup.match.items())
    return f"(SELECT t.*, l.{identifier(lookup.column)} AS {name} FROM {rows} t LEFT JOIN {other} l ON {match})"


def _check_keys(connection: duckdb.DuckDBPyConnection, declared: SourceTable) -> None:
    """Rejects rows of `placed` whose declared key is incomplete, or names other rows too.

    Of equal rows the first stays. Of rows with one key that say different things none does: which is right isn't known.
    """
    if not declared.key:
        return
    key, shown = identifiers(declared.key), ", ".join(declared.key)
    empty = " OR ".join(f"{identifier(column)} IS NULL" for column in declared.key)
    versions = f"{key}, _known_at" if declared.known.corrections == "declared" else key
    row = identifiers(declared.columns)
    twice = f"SELECT 1 FROM placed WHERE NOT _faulty GROUP BY {versions} HAVING count(*) > 1 OR {empty} LIMIT 1"
    if not connection.execute(twice).fetchall():
        return
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE key_faults AS
        SELECT _file, _line, CASE WHEN {empty} THEN 'the key ({shown}) is incomplete'
            ELSE 'the key ({shown}) is also in ' || CASE WHEN _nth = 1 THEN _last ELSE _first END END AS reason
        FROM (
            SELECT *, row_number() OVER (same ORDER BY _file, _line) AS _nth, count(*) OVER same AS _rows,
                min(hash({row})) OVER same <> max(hash({row})) OVER same AS _differ,
                min_by(_file || ', line ' || _line, (_file, _line)) OVER same AS _first,
                max_by(_file || ', line ' || _line, (_file, _line)) OVER same AS _last
            FROM placed WHERE NOT _faulty WINDOW same AS (PARTITION BY {versions})
        )
        WHERE {empty} OR (_rows > 1 AND (_differ OR _nth > 1))
        """
    )
    append(connection, "faults", f"SELECT _file, _line, '{shown}', reason FROM key_faults")
    connection.execute(
        "UPDATE placed SET _faulty = true FROM key_faults k WHERE placed._file = k._file AND placed._line = k._line"
    )


def _select_known(connection: duckdb.DuckDBPyConnection, declared: SourceTable, clock: datetime, within: str) -> None:
    """Makes `fresh` of `placed`: the asked months as the lake should hold them at the clock."""
    known = f"<= TIMESTAMP '{clock}'"
    later = {column: f"_{name}_known_at" for name, group in declared.known.later.items() for column in group.columns}
    values = []
    for name in map(identifier, declared.columns):
        at = later.get(name.strip('"'))
        values.append(f"CASE WHEN {at} {known} THEN {name} END AS {name}" if at else name)
    values += ["_file AS _source_file", "_line AS _source_line", f"TIMESTAMP '{clock}' AS _ingested_at", "_known_at"]
    values += [f"CASE WHEN {at} {known} THEN {at} END AS {at}" for at in dict.fromkeys(later.values())]
    values += ["_month"] if declared.month else []
    connection.execute(
        f"CREATE TEMP TABLE fresh AS SELECT {', '.join(values)} FROM placed "
        f"WHERE NOT _faulty AND _known_at {known} AND {within}"
    )


def _update_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    declared: SourceTable,
    clock: datetime,
    asked: list[date | None],
    within: str,
    made_from_it: Collection[str] | None,
) -> Changes:
    """Makes or updates `raw.<table>` and its view, and notes until when it has been ingested."""
    name = f"raw.{identifier(table)}"
    created = not has_table(connection, f"raw.{table}")
    if created:
        create(connection, table, declared)
    elif "_row_known_at" not in columns_of(connection, name):
        raise HindcastError(f"{name} was made by an earlier version of Hindcast: work in a new HINDCAST_HOME.")
    elif columns_of(connection, f"SELECT * EXCLUDE (_row_known_at, _known_until) FROM {name}") != columns_of(
        connection, "fresh"
    ):
        raise HindcastError(f"{name} was made with other columns than are declared now: work in a new HINDCAST_HOME.")
    known = declared.known.model_dump_json(exclude={"corrections"})
    declaration = fingerprint(values=[known, declared.model_dump_json(include={"key", "month", "derived", "lookups"})])
    ingested, declaration_before = read_ingested(connection, table) if not created else ({}, declaration)
    redeclared = declaration_before not in (None, declaration)
    if created or redeclared:
        show_known(connection, table, declared)
    if redeclared:  # all months are placed and dated anew
        asked, within = sorted({*asked, *ingested}, key=str), "true"
        connection.execute("DROP TABLE fresh")
        _select_known(connection, declared, clock, within)
    if _is_empty(connection, table, declared):
        return Changes()
    older = [month for month in asked if month in ingested and ingested[month] > clock]
    if declared.month and older:
        connection.execute(f"DELETE FROM fresh WHERE {month_condition(older)}")
        within = f"{within} AND NOT {month_condition(older)}"
    if older == [None]:
        changes = Changes()
    else:
        changes = update(connection, table, declared, clock, within, ingested, redeclared, made_from_it)
    note_ingested(connection, table, [month for month in asked if month not in older], clock, declaration)
    return changes


def _is_empty(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable) -> bool:
    """Whether the files have no readable row, and would withdraw all there is; then nothing is changed.

    Raises:
        HindcastError: They have no row at all. Where all were rejected, a check stops the run.
    """
    if declared.delivery == "append":
        return False
    standing = f"SELECT count(*) FROM raw.{identifier(table)} WHERE _known_until IS NULL"
    rows = connection.execute(standing).fetchall()[0][0]
    if not rows or connection.execute("SELECT 1 FROM placed WHERE NOT _faulty LIMIT 1").fetchall():
        return False
    if connection.execute("SELECT 1 FROM rejects LIMIT 1").fetchall():
        return True
    raise HindcastError(
        f"raw.{table}: its files hold no row, and the delivery before had {rows:,}: nothing was changed. Put the rows "
        "back; or declare `delivery: append`, if the files hold only what is new."
    )
