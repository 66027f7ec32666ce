"""From source files into the lake's raw tables, as they were known at an instant. Nothing is cleaned here.

A row that can't be read goes to `raw.rejected`. How files are read is in `readers`; what they and their
columns mean is declared in `sources`.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from hindcast.errors import HindcastError
from hindcast.lake import Lake, has_table
from hindcast.settings import Settings
from hindcast.tables.control import HELD
from hindcast.tables.readers import append, identifier, read_files, row_texts, text_literal
from hindcast.tables.sources import Lookup, Sources, SourceTable

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_REJECTED = "table_name VARCHAR, source_file VARCHAR, line BIGINT, column_name VARCHAR, reason VARCHAR, text VARCHAR"


@dataclass(frozen=True)
class IngestResult:
    """What one ingestion of a table did.

    Attributes:
        table: Its name, without the schema.
        files: The files that were read, as rows name them in `_source_file`.
        rows_read: Data rows in these files, rejected ones included.
        rejected: Of these, rows that now stand in `raw.rejected`.
        not_yet_known: Of these, rows of the asked months that are left out because they lie after the clock.
        rows: Rows of the table in the asked months, after ingestion (all rows where the table has no months).
        rows_in_table: Rows of the whole table.
        undeclared: Columns of the files that the declaration doesn't name; they weren't read.
        changed: Whether anything was written.
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
    changed: bool
    data_version: str

    @property
    def rejected_share(self) -> float:
        return self.rejected / self.rows_read if self.rows_read else 0.0


def ingest(
    lake: Lake, sources: Sources, table: str, now: datetime, settings: Settings, months: list[date] | None = None
) -> IngestResult:
    """Brings the lake's `raw.<table>` to what its files say was known at an instant, in one snapshot.

    The files are read once, however many months are asked for. A month's rows are replaced only where they
    differ from what is there; rejected rows of the table are replaced as a whole. Where nothing differs, no
    snapshot is made.

    Args:
        lake: Where the table goes.
        sources: The declaration.
        table: Its name there.
        now: The clock. Rows known later are left out, and columns known later are NULL.
        settings: Where scratch files may lie, and the checkout.
        months: First days of the months (UTC) to replace; None for all. A table without months is always
            replaced as a whole.

    Raises:
        HindcastError: A file is missing, unreadable or without a declared column; an expression of the
            declaration fails; or the table in the lake was made with other columns.
    """
    if now.tzinfo is None:
        raise HindcastError(f"Ingestion needs a clock with a time zone, not {now.isoformat()}.")
    declared = sources.tables.get(table)
    if declared is None:
        raise HindcastError(f"The sources declare no table {table}; there are: {', '.join(sources.tables)}.")
    clock = now.astimezone(UTC).replace(tzinfo=None)
    paths = _files(sources, table, settings.root)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.scratch, prefix="ingest-") as folder, lake.writing() as connection:
        scratch = Path(folder)
        undeclared = read_files(connection, paths, declared, scratch)
        _type_rows(connection, table, declared)
        _place_rows(connection, table, declared, clock)
        _collect_rejects(connection, table, declared, paths, scratch)
        within = _within(months if declared.month else None)
        _select_known(connection, declared, clock, within)
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        changed = _replace_rejected(connection, table, clock)
        changed = _replace_rows(connection, table, declared, within) or changed
        name = f"raw.{identifier(table)}"
        _, in_table, content = connection.execute(_summary(connection, name)).fetchall()[0]
        form = _columns(connection, name)
        read, rejected, late, rows = connection.execute(
            f"""
            SELECT
                (SELECT count(DISTINCT (file, line)) FROM faults) + (SELECT count(*) FROM placed WHERE NOT _faulty),
                (SELECT count(*) FROM rejects),
                (SELECT count(*) FROM placed WHERE NOT _faulty AND _known_at > ? AND {within}),
                (SELECT count(*) FROM fresh)
            """,
            [clock],
        ).fetchall()[0]
    version = hashlib.sha256(f"{form} {in_table} {content}".encode()).hexdigest()[:16]
    return IngestResult(
        table=table,
        files=tuple(paths),
        rows_read=read,
        rejected=rejected,
        not_yet_known=late,
        rows=rows,
        rows_in_table=in_table,
        undeclared=undeclared,
        changed=changed,
        data_version=version,
    )


def month_of(instant: datetime) -> date:
    """First day of an instant's month, in UTC: the partition that it falls in."""
    return instant.astimezone(UTC).date().replace(day=1)


def _files(sources: Sources, table: str, root: Path) -> dict[str, Path]:
    folder, origin = sources.origin(root)
    pattern = sources.tables[table].file
    paths = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not paths:
        raise HindcastError(f"raw.{table}: the file {folder / pattern} is missing.")
    return {f"{origin}/{path.relative_to(folder).as_posix()}": path for path in paths}


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
    staged = dict(_columns(connection, "read_rows"))
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
    other = f"raw.{identifier(lookup.table)}"
    keys = ", ".join(map(identifier, lookup.match))
    twice = _execute(
        connection,
        f"SELECT {keys} FROM {other} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1",
        f"raw.{table} looks up raw.{lookup.table}, which is to be ingested before",
    )
    if twice:
        raise HindcastError(f"raw.{table}: lookup {name} finds {keys} = {twice[0]} more than once in {other}.")
    match = " AND ".join(f"l.{identifier(there)} = t.{identifier(here)}" for there, here in lookup.match.items())
    return f"(SELECT t.*, l.{identifier(lookup.column)} AS {name} FROM {rows} t LEFT JOIN {other} l ON {match})"


def _collect_rejects(
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


def _replace_rejected(connection: duckdb.DuckDBPyConnection, table: str, clock: datetime) -> bool:
    connection.execute(f"CREATE TABLE IF NOT EXISTS raw.rejected ({_REJECTED}, _ingested_at TIMESTAMP)")
    there = f"(SELECT * EXCLUDE _ingested_at FROM raw.rejected WHERE table_name = {text_literal(table)})"
    gone, new = f"(FROM {there} EXCEPT FROM rejects)", f"(FROM rejects EXCEPT FROM {there})"
    if not connection.execute(f"FROM {gone} UNION ALL FROM {new} LIMIT 1").fetchall():
        return False
    connection.execute("DELETE FROM raw.rejected WHERE table_name = ?", [table])
    connection.execute("INSERT INTO raw.rejected SELECT *, ? FROM rejects ORDER BY source_file, line", [clock])
    return True


def _replace_rows(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable, within: str) -> bool:
    """Replaces the months of `raw.<table>` that differ from `fresh`; without months, the table."""
    name = f"raw.{identifier(table)}"
    created = not has_table(connection, f"raw.{table}")
    if created:
        connection.execute(f"CREATE TABLE {name} AS FROM fresh WHERE false")
        if declared.month:
            connection.execute(f"ALTER TABLE {name} SET PARTITIONED BY (_month)")
    elif _columns(connection, name) != _columns(connection, "fresh"):
        raise HindcastError(f"{name} was made with other columns than are declared now: work in a new HINDCAST_HOME.")
    if declared.known.at is None:
        _keep_first_known(connection, name, declared)
    differing = _differing(connection, name, declared, within)
    if differing == "false":
        return created
    _take_out_what_held(connection, name, declared, differing)
    connection.execute(f"DELETE FROM {name} WHERE {differing}")
    connection.execute(f"INSERT INTO {name} FROM fresh WHERE {differing} ORDER BY _source_file, _source_line")
    return True


def _differing(connection: duckdb.DuckDBPyConnection, name: str, declared: SourceTable, within: str) -> str:
    """A condition for what must be replaced; `false` where nothing differs."""
    month = "_month" if declared.month else "NULL::DATE"
    differing = connection.execute(
        f"""
        SELECT coalesce(new.month, old.month)
        FROM ({_summary(connection, "fresh", month)} GROUP BY ALL) AS new
        FULL JOIN ({_summary(connection, name, month)} WHERE {within} GROUP BY ALL) AS old
            ON new.month IS NOT DISTINCT FROM old.month
        WHERE (new.n, new.content) IS DISTINCT FROM (old.n, old.content)
        """
    ).fetchall()
    months = [month for (month,) in differing]
    return "true" if None in months else _within(months)


def _take_out_what_held(
    connection: duckdb.DuckDBPyConnection, name: str, declared: SourceTable, differing: str
) -> None:
    """Takes out the entries of tables that were made when rows known by then were missing, or other than they are now.

    What only became known since they were made changes nothing in them; how they are brought on by it, or made afresh
    where they have no entry, is said in `dbt_project/macros/increments.sql`. Where something is no longer so, or only
    lines have moved, no entry stays: who read it, and when, isn't known.
    """
    if not has_table(connection, HELD):
        return
    later = {
        f"_{group}_known_at": [f"_{group}_known_at", *known.columns] for group, known in declared.known.later.items()
    }
    added = {
        "_source_file",
        "_source_line",
        "_ingested_at",
        *(column for columns in later.values() for column in columns),
    }
    own = [column for column, _ in _columns(connection, "fresh") if column not in added]
    facts = " UNION ALL ".join(
        f"SELECT {at} AS instant, hash({', '.join(map(identifier, [*own, *columns]))}) AS content, {sign} AS sign "
        f"FROM {rows} WHERE {differing} AND {at} IS NOT NULL"
        for at, columns in {"_known_at": [], **later}.items()
        for rows, sign in (("fresh", 1), (name, -1))
    )
    changed = f"SELECT instant, sum(sign) AS more FROM ({facts}) GROUP BY instant, content HAVING sum(sign) <> 0"
    earliest, fewest = connection.execute(f"SELECT min(instant), min(more) FROM ({changed})").fetchall()[0]
    if earliest is None or fewest < 0:
        connection.execute(f"DELETE FROM {HELD}")
    else:
        connection.execute(f"DELETE FROM {HELD} WHERE known_until >= ?", [earliest])


def _within(months: list[date] | None) -> str:
    """A condition on `_month`; None means every one."""
    if months is None:
        return "true"
    each = " OR ".join(f"_month = DATE '{month}'" for month in months)
    return f"({each})" if months else "false"


def _keep_first_known(connection: duckdb.DuckDBPyConnection, name: str, declared: SourceTable) -> None:
    """Where nothing declares when a row was known, it was when a row of the same content was first ingested."""
    grouped = {column for group in declared.known.later.values() for column in group.columns}
    content = f"hash({', '.join(identifier(column) for column in declared.columns if column not in grouped)})"
    connection.execute(
        f"""
        UPDATE fresh SET _known_at = _first
        FROM (SELECT {content} AS _content, min(_known_at) AS _first FROM {name} GROUP BY 1)
        WHERE {content} = _content
        """
    )


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {table}").fetchall()]


def _summary(connection: duckdb.DuckDBPyConnection, table: str, month: str = "NULL") -> str:
    """The start of a query for what a table holds, in any order: rows are told apart by their file and line."""
    columns = ", ".join(identifier(name) for name, _ in _columns(connection, table) if name != "_ingested_at")
    return f"SELECT {month} AS month, count(*) AS n, sum(CAST(hash({columns}) AS HUGEINT)) AS content FROM {table}"
