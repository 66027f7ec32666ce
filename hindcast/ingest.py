"""From source files into the lake's raw tables, as they were known at an instant. Nothing is cleaned here.

A row that can't be read goes to `raw.rejected`. How files are read is in `readers`; what they and their
columns mean is declared in `sources`.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.readers import identifier, read_file, row_texts, text_literal
from hindcast.settings import Settings
from hindcast.sources import Sources, SourceTable

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
        undeclared = {name for file, path in paths.items() for name in read_file(connection, path, file, declared, scratch)}
        _type_rows(connection, declared)
        _place_rows(connection, table, declared, clock)
        _collect_rejects(connection, table, declared, paths, scratch)
        within = _within(months if declared.month else None)
        _select_known(connection, declared, clock, within)
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        changed = _replace_rejected(connection, table, clock)
        changed = _replace_rows(connection, table, declared, clock, within) or changed
        name = f"raw.{identifier(table)}"
        in_table, content = connection.execute(_summary(connection, name)).fetchall()[0]
        form = _columns(connection, name)
        read, rejected, late, rows = connection.execute(
            f"SELECT (SELECT count(DISTINCT (file, line)) FROM faults) + (SELECT count(*) FROM placed WHERE NOT _faulty), "
            f"(SELECT count(*) FROM rejects), (SELECT count(*) FROM placed WHERE NOT _faulty AND _known_at > ? AND {within}), "
            "(SELECT count(*) FROM fresh)",
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
        undeclared=tuple(sorted(undeclared)),
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


def _execute(connection: duckdb.DuckDBPyConnection, sql: str, what: str, values: list[object] | None = None) -> None:
    try:
        connection.execute(sql, values)
    except duckdb.Error as error:
        raise HindcastError(f"{what}: {str(error).splitlines()[0]}") from error


def _type_rows(connection: duckdb.DuckDBPyConnection, declared: SourceTable) -> None:
    """Makes `typed` of `read_rows`. A cell that can't be had without loss makes its row faulty."""
    staged = {row[0]: row[1] for row in connection.execute("DESCRIBE read_rows").fetchall()}
    casts, faulty = [], {}
    for name, kind in declared.columns.items():
        column, kind = identifier(name), kind.upper()
        if staged[name] == kind or kind == "VARCHAR":
            casts.append(column)
            continue
        # A plain cast to TIMESTAMP drops an offset; by way of TIMESTAMPTZ it is reckoned in (the session is in UTC).
        value = f"CAST(TRY_CAST({column} AS TIMESTAMPTZ) AS TIMESTAMP)" if kind == "TIMESTAMP" else f"TRY_CAST({column} AS {kind})"
        casts.append(f"{value} AS {column}")
        lossy = ""
        if kind in _INTEGERS:  # a cast rounds
            lossy = f" OR (regexp_matches({column}, '[.eE]') AND TRY_CAST({column} AS DOUBLE) <> {value})"
        elif kind == "DATE":  # a cast drops the time
            lossy = f" OR TRY_CAST({column} AS TIMESTAMP) <> {value}"
        faulty[name] = f"coalesce({column} IS NOT NULL AND ({value} IS NULL{lossy}), false)"
    bad = " OR ".join(faulty.values()) or "false"
    _execute(
        connection,
        f"CREATE TEMP TABLE typed AS SELECT _file, _line, {', '.join(casts)}, {bad} AS _faulty FROM read_rows",
        "A declared type doesn't exist",
    )
    if connection.execute("SELECT 1 FROM typed WHERE _faulty LIMIT 1").fetchall():
        for name, fault in faulty.items():
            connection.execute(
                f"INSERT INTO faults SELECT _file, _line, ?, concat('\"', {identifier(name)}, '\" is not ', ?) FROM read_rows WHERE {fault}",
                [name, declared.columns[name]],
            )


def _place_rows(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable, clock: datetime) -> None:
    """Makes `placed` of `typed`: readable rows with their month and the instants at which they become known."""
    rows = "(SELECT * EXCLUDE _faulty FROM typed WHERE NOT _faulty)"
    for name, lookup in declared.lookups.items():
        other = f"raw.{lookup.table}"
        keys = ", ".join(map(identifier, lookup.match))
        twice = f"SELECT {keys} FROM {other} GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        _execute(connection, f"CREATE OR REPLACE TEMP TABLE twice AS {twice}", f"raw.{table} looks up {other}, to be ingested before")
        if found := connection.execute("SELECT * FROM twice").fetchall():
            raise HindcastError(f"raw.{table}: the lookup {name} finds {other} more than once for {keys} = {found[0]}.")
        match = " AND ".join(f"l.{identifier(there)} = t.{identifier(here)}" for there, here in lookup.match.items())
        rows = f"(SELECT t.*, l.{identifier(lookup.column)} AS {name} FROM {rows} t LEFT JOIN {other} l ON {match})"
    for name, expression in declared.derived.items():
        rows = f"(SELECT *, TRY({expression}) AS {name} FROM {rows})"
    instants = {"_month": f"date_trunc('month', CAST(TRY({declared.month}) AS TIMESTAMP))::DATE"} if declared.month else {}
    at = f"CAST(TRY({declared.known.at}) AS TIMESTAMP)" if declared.known.at else f"TIMESTAMP '{clock}'"
    instants["_known_at"] = at
    faults = {"_month IS NULL": "month has no value"} if declared.month else {}
    faults["_known_at IS NULL"] = "known.at has no value"
    for name, group in declared.known.later.items():
        instants[f"_{name}_known_at"] = f"CAST(TRY({group.at}) AS TIMESTAMP)"
        filled = ", ".join(map(identifier, group.columns))
        faults[f"_{name}_known_at IS NULL AND coalesce({', '.join(f'{c}::VARCHAR' for c in filled.split(', '))}) IS NOT NULL"] = (
            f"known.later.{name}.at has no value, while there is one in {', '.join(group.columns)}"
        )
    columns = ", ".join(["_file", "_line", *map(identifier, declared.columns), *(f"{sql} AS {name}" for name, sql in instants.items())])
    _execute(
        connection,
        f"CREATE TEMP TABLE placed AS SELECT *, {' OR '.join(f'({fault})' for fault in faults)} AS _faulty FROM (SELECT {columns} FROM {rows})",
        f"The declaration of raw.{table} has an expression that fails",
    )
    for fault, reason in faults.items():
        connection.execute(f"INSERT INTO faults SELECT _file, _line, NULL, ? FROM placed WHERE _faulty AND {fault}", [reason])


def _collect_rejects(
    connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable, paths: dict[str, Path], scratch: Path
) -> None:
    """Makes `rejects` of `faults`: one row per rejected line, with all reasons and its text."""
    connection.execute("CREATE TEMP TABLE texts (file VARCHAR, line BIGINT, text VARCHAR)")
    for file, path in paths.items():
        lines = {line for (line,) in connection.execute("SELECT DISTINCT line FROM faults WHERE file = ?", [file]).fetchall()}
        if lines:
            texts = row_texts(connection, path, declared, lines, scratch)
            connection.executemany("INSERT INTO texts VALUES (?, ?, ?)", [(file, line, text) for line, text in texts.items()])
    connection.execute(
        "CREATE TEMP TABLE rejects AS SELECT ? AS table_name, file AS source_file, line, min(column_name) AS column_name, "
        "string_agg(DISTINCT reason, '; ' ORDER BY reason) AS reason, any_value(text) AS text "
        "FROM faults LEFT JOIN texts USING (file, line) GROUP BY ALL",
        [table],
    )


def _within(months: list[date] | None) -> str:
    """A condition on `_month`."""
    if months is None:
        return "true"
    return f"_month IN ({', '.join(f'''DATE '{month}' ''' for month in months)})" if months else "false"


def _select_known(connection: duckdb.DuckDBPyConnection, declared: SourceTable, clock: datetime, within: str) -> None:
    """Makes `fresh` of `placed`: the asked months as the lake should hold them at the clock."""
    later = {column: f"_{name}_known_at" for name, group in declared.known.later.items() for column in group.columns}
    now = f"TIMESTAMP '{clock}'"
    values = [
        f"CASE WHEN {later[name]} <= {now} THEN {identifier(name)} END AS {identifier(name)}" if name in later else identifier(name)
        for name in declared.columns
    ]
    values += ["_file AS _source_file", "_line AS _source_line", f"{now} AS _ingested_at", "_known_at"]
    values += [f"CASE WHEN {at} <= {now} THEN {at} END AS {at}" for at in dict.fromkeys(later.values())]
    values += ["_month"] if declared.month else []
    connection.execute(
        f"CREATE TEMP TABLE fresh AS SELECT {', '.join(values)} FROM placed "
        f"WHERE NOT _faulty AND _known_at <= {now} AND {within} ORDER BY _file, _line"
    )


def _replace_rejected(connection: duckdb.DuckDBPyConnection, table: str, clock: datetime) -> bool:
    connection.execute(f"CREATE TABLE IF NOT EXISTS raw.rejected ({_REJECTED}, _ingested_at TIMESTAMP)")
    there = f"(SELECT * EXCLUDE _ingested_at FROM raw.rejected WHERE table_name = {text_literal(table)})"
    differs = f"SELECT 1 FROM (FROM rejects EXCEPT FROM {there}) UNION ALL SELECT 1 FROM (FROM {there} EXCEPT FROM rejects) LIMIT 1"
    if not connection.execute(differs).fetchall():
        return False
    connection.execute("DELETE FROM raw.rejected WHERE table_name = ?", [table])
    connection.execute("INSERT INTO raw.rejected SELECT *, ? FROM rejects ORDER BY source_file, line", [clock])
    return True


def _replace_rows(
    connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable, clock: datetime, within: str
) -> bool:
    """Replaces the months of `raw.<table>` that differ from `fresh`; without months, the table."""
    name = f"raw.{identifier(table)}"
    created = not connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'raw' AND table_name = ?", [table]
    ).fetchall()
    if created:
        connection.execute(f"CREATE TABLE {name} AS FROM fresh WHERE false")
        if declared.month:
            connection.execute(f"ALTER TABLE {name} SET PARTITIONED BY (_month)")
    elif _columns(connection, name) != _columns(connection, "fresh"):
        raise HindcastError(f"{name} was made with other columns than are declared now: work in a new HINDCAST_HOME.")
    if declared.known.at is None:
        _keep_first_known(connection, name, declared)
    if declared.month:
        months = connection.execute(
            f"SELECT coalesce(new._month, old._month) FROM ({_summary(connection, 'fresh', '_month,')}) new "
            f"FULL JOIN ({_summary(connection, name, '_month,', within)}) old ON new._month = old._month "
            "WHERE (new.n, new.content) IS DISTINCT FROM (old.n, old.content)"
        ).fetchall()
        if not months:
            return created
        differing = _within([month for (month,) in months])
    else:
        differing = "true"
        if _fetch(connection, _summary(connection, "fresh")) == _fetch(connection, _summary(connection, name)):
            return created
    if not created:
        connection.execute(f"DELETE FROM {name} WHERE {differing}")
    connection.execute(f"INSERT INTO {name} FROM fresh WHERE {differing} ORDER BY _source_file, _source_line")
    return True


def _keep_first_known(connection: duckdb.DuckDBPyConnection, name: str, declared: SourceTable) -> None:
    """Where nothing declares when a row was known, it was when a row of the same content was first ingested."""
    grouped = {column for group in declared.known.later.values() for column in group.columns}
    content = f"hash({', '.join(identifier(column) for column in declared.columns if column not in grouped)})"
    connection.execute(
        f"UPDATE fresh SET _known_at = old.at FROM (SELECT {content} AS content, min(_known_at) AS at FROM {name} GROUP BY 1) old "
        f"WHERE {content} = old.content"
    )


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {table}").fetchall()]


def _summary(connection: duckdb.DuckDBPyConnection, table: str, group: str = "", where: str = "true") -> str:
    """A query for what a table holds, whatever its order: rows are told apart by their file and line."""
    columns = ", ".join(identifier(name) for name, _ in _columns(connection, table) if name != "_ingested_at")
    by = " GROUP BY ALL" if group else ""
    return f"SELECT {group} count(*) AS n, sum(hash({columns})::HUGEINT) AS content FROM {table} WHERE {where}{by}"


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql).fetchall()
