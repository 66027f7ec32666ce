"""Reads source files as rows of text with their true line numbers. What the text means is `ingest`'s work.

A line's number must be right for good rows and bad ones alike, so each record is handed to DuckDB with its
number in front: DuckDB's own numbers don't count blank lines and values that go over several lines.
"""

import csv
import gzip
import json
import shutil
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

import duckdb

from hindcast.errors import HindcastError
from hindcast.lake import columns_of
from hindcast.sources import SourceTable
from hindcast.sql import identifier, identifiers, text_literal

_LONGEST_LINE = 1_000_000  # bytes; DuckDB gives up at twice that
_LONGEST_VALUE = 1_000  # lines that a quoted value may go over; beyond them, its quote counts as never closed
_SEPARATOR = "\x1f"  # between a JSON line's number and its text, where it can't occur
_NO_NULL = "\x1e"  # DuckDB wants at least one text that stands for a missing value; no file has this one

Record = tuple[int, bytes, str]  # line number, text without its line end, reason why it can't be read or ""


def read_files(
    connection: duckdb.DuckDBPyConnection, paths: dict[str, Path], table: SourceTable, scratch: Path
) -> tuple[str, ...]:
    """Makes the temporary view `read_rows` of the files' rows and the table `faults` of their unreadable lines.

    `read_rows` gets `_file`, `_line` (from 1; in CSV the header counts, in Parquet it is the row's number) and
    the declared columns, as text or, in Parquet, with the declared type where the file has that.

    Args:
        connection: Where both are made.
        paths: The files, by the name that goes to `_file`.
        table: The declaration.
        scratch: For copies that DuckDB reads; the caller removes it.

    Returns:
        Columns of the files that aren't declared, sorted.

    Raises:
        HindcastError: A file is damaged or has lost a column; the message names both.
    """
    connection.execute("CREATE TEMP TABLE faults (file VARCHAR, line BIGINT, column_name VARCHAR, reason VARCHAR)")
    read = {"csv": _read_csv, "jsonl": _read_json_lines, "parquet": _read_parquet}[table.format]
    found: set[str] = set()
    for number, (file, path) in enumerate(paths.items()):
        try:
            names, rows = read(connection, path, file, table, scratch)
            connection.execute(f"CREATE TEMP TABLE read_{number} AS SELECT {text_literal(file)} AS _file, {rows}")
            if table.format != "parquet":
                _keep_rejects(connection, file, "not a JSON object" if table.format == "jsonl" else "too many values")
        except duckdb.Error as error:
            raise HindcastError(f"{path} can't be read as {table.format}: {str(error).splitlines()[0]}") from error
        found.update(names)
    parts = " UNION ALL BY NAME ".join(f"FROM read_{number}" for number in range(len(paths)))
    connection.execute(f"CREATE TEMP VIEW read_rows AS {parts}")
    return tuple(sorted(found - table.columns.keys()))


def append(connection: duckdb.DuckDBPyConnection, table: str, select: str, values: list[object] | None = None) -> None:
    """Adds rows to a temporary table within a transaction, and never none.

    DuckDB 1.5 silently loses what several threads add to a table after an addition of no rows to it, all within
    one transaction.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE addition AS {select}", values)
    if connection.execute("SELECT 1 FROM addition LIMIT 1").fetchall():
        connection.execute(f"INSERT INTO {table} FROM addition")


def row_texts(
    connection: duckdb.DuckDBPyConnection, path: Path, table: SourceTable, lines: set[int], scratch: Path
) -> dict[int, str]:
    """The text of some lines of a file as they stand in it; a Parquet row as JSON."""
    if table.format == "parquet":
        rows = connection.execute(
            f"""
            SELECT file_row_number + 1, to_json(t) FROM {_parquet(path, scratch)} t
            WHERE file_row_number + 1 IN (SELECT unnest(?::BIGINT[]))
            """,
            [sorted(lines)],
        ).fetchall()
        return dict(rows)
    with _unpacked(path) as stream:
        found = _csv_records(stream, _header(stream)) if table.format == "csv" else _json_records(stream)
        return {number: text[:_LONGEST_LINE].decode("utf-8", "replace") for number, text, _ in found if number in lines}


def _read_csv(
    connection: duckdb.DuckDBPyConnection, path: Path, file: str, table: SourceTable, scratch: Path
) -> tuple[list[str], str]:
    with _unpacked(path) as stream:
        header = _header(stream)
        _check_columns(path, header, table)
        copy = _numbered_copy(connection, file, _csv_records(stream, header), b",", scratch)
    columns = {"_line": "BIGINT"}
    columns |= {name if name in table.columns else f"_{place}": "VARCHAR" for place, name in enumerate(header)}
    nulls = ", ".join(map(text_literal, table.nulls or [_NO_NULL]))
    return header, (
        f"_line, {identifiers(table.columns)} FROM {_numbered(copy, columns)}, "
        f"delim = ',', quote = '\"', escape = '\"', nullstr = [{nulls}])"
    )


def _read_json_lines(
    connection: duckdb.DuckDBPyConnection, path: Path, file: str, table: SourceTable, scratch: Path
) -> tuple[list[str], str]:
    with _unpacked(path) as stream:
        copy = _numbered_copy(connection, file, _json_records(stream), _SEPARATOR.encode(), scratch)
    columns = {"_line": "BIGINT", "_text": "VARCHAR"}
    source = f"{_numbered(copy, columns)}, delim = '{_SEPARATOR}', quote = '', escape = '', nullstr = ['{_NO_NULL}'])"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE json_rows AS
        SELECT *, CASE WHEN json_valid(_text) THEN json_type(_text) = 'OBJECT' ELSE false END AS _good
        FROM {source}
        """
    )
    append(connection, "faults", "SELECT ?, _line, NULL, 'not a JSON object' FROM json_rows WHERE NOT _good", [file])
    keys = connection.execute(
        "SELECT DISTINCT unnest(json_keys(_text)) FROM json_rows WHERE _good ORDER BY 1"
    ).fetchall()
    names = [name for (name,) in keys]
    if names:  # a key that is absent from some lines is a missing value; one that is absent from all is lost
        _check_columns(path, names, table)
    paths = ", ".join(text_literal("$." + json.dumps(name)) for name in table.columns)
    nulls = ", ".join(map(text_literal, table.nulls or [_NO_NULL]))
    values = ", ".join(
        f"CASE WHEN _values[{place}] NOT IN ({nulls}) THEN _values[{place}] END AS {identifier(name)}"
        for place, name in enumerate(table.columns, 1)
    )
    extracted = f"SELECT _line, json_extract_string(_text, [{paths}]) AS _values FROM json_rows WHERE _good"
    return names, f"_line, {values} FROM ({extracted})"


def _read_parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, file: str, table: SourceTable, scratch: Path
) -> tuple[list[str], str]:
    source = _parquet(path, scratch)
    types = columns_of(connection, f"SELECT * EXCLUDE file_row_number FROM {source}")
    _check_columns(path, list(types), table)
    values = ", ".join(
        identifier(name) if types[name] == declared else f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}"
        for name, declared in table.columns.items()
    )
    return list(types), f"file_row_number + 1 AS _line, {values} FROM {source}"


def _parquet(path: Path, scratch: Path) -> str:
    if path.suffix == ".zip":
        copy = scratch / f"{path.name}.parquet"
        with _unpacked(path) as stream, copy.open("wb") as target:
            shutil.copyfileobj(stream, target)
        path = copy
    return f"read_parquet({text_literal(str(path))}, file_row_number = true)"


def _check_columns(path: Path, names: list[str], table: SourceTable) -> None:
    lost = [name for name in table.columns if name not in names]
    if lost:
        columns = "the column" if len(lost) == 1 else "the columns"
        raise HindcastError(f"{path} has lost {columns} {', '.join(lost)}; it has {', '.join(names) or 'none'}.")
    twice = sorted({name for name in names if names.count(name) > 1 and name in table.columns})
    if twice:
        raise HindcastError(f"{path} has more than one column {', '.join(twice)}.")


def _numbered(copy: Path, columns: dict[str, str]) -> str:
    """The beginning of a `read_csv` call; the dialect is added."""
    types = ", ".join(f"{text_literal(name)}: '{kind}'" for name, kind in columns.items())
    return (
        f"read_csv({text_literal(str(copy))}, auto_detect = false, header = false, columns = {{{types}}}, "
        "store_rejects = true, rejects_limit = 0"
    )


def _keep_rejects(connection: duckdb.DuckDBPyConnection, file: str, too_many: str) -> None:
    """Moves what DuckDB rejected to `faults`. Each such line begins with the number that it was given."""
    append(
        connection,
        "faults",
        """
        SELECT ?, TRY_CAST(regexp_extract(csv_line, '^\\d+') AS BIGINT), NULL,
            CASE error_type
                WHEN 'MISSING COLUMNS' THEN 'too few values'
                WHEN 'TOO MANY COLUMNS' THEN ?
                WHEN 'UNQUOTED VALUE' THEN 'a quoted value has text beside it'
                WHEN 'INVALID ENCODING' THEN 'not UTF-8'
                ELSE error_message END
        FROM reject_errors
        """,
        [file, too_many],
    )
    connection.execute("TRUNCATE reject_errors")


def _numbered_copy(
    connection: duckdb.DuckDBPyConnection, file: str, records: Iterator[Record], separator: bytes, scratch: Path
) -> Path:
    copy = scratch / "numbered.csv"
    faults: list[tuple[int, str]] = []

    def numbered() -> Iterator[bytes]:
        for number, text, reason in records:
            if reason:
                faults.append((number, reason))
            else:
                yield b"%d%b%b\n" % (number, separator, text)

    with copy.open("wb", buffering=1 << 20) as target:
        target.writelines(numbered())
    if faults:
        append(
            connection,
            "faults",
            "SELECT ?, unnest(?::BIGINT[]), NULL, unnest(?::VARCHAR[])",
            [file, [line for line, _ in faults], [reason for _, reason in faults]],
        )
    return copy


def _header(stream: IO[bytes]) -> list[str]:
    return next(csv.reader([stream.readline().decode("utf-8-sig", "replace").rstrip("\r\n")]), [])


def _json_records(stream: IO[bytes]) -> Iterator[Record]:
    for number, line in enumerate(stream, 1):
        text = line.rstrip(b"\r\n")
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text.strip():
            yield number, text, "" if len(text) <= _LONGEST_LINE else "longer than a line may be"


def _csv_records(stream: IO[bytes], header: list[str]) -> Iterator[Record]:
    """Records after the header, by their first line's number. Blank lines are none.

    A quoted value may go over several lines. Where joining them doesn't give a whole record, the quote was
    never closed: that line alone is at fault, and the next one begins a record again.
    """
    lines = enumerate(stream, 2)
    ahead: deque[tuple[int, bytes]] = deque()

    def following() -> tuple[int, bytes] | None:
        return ahead.popleft() if ahead else next(lines, None)

    while (item := following()) is not None:
        number, line = item
        text = line.rstrip(b"\r\n")
        reason = ""
        if line.count(b'"') % 2 and not _is_whole(line, len(header)):
            joined: list[tuple[int, bytes]] = []
            while len(joined) < _LONGEST_VALUE and (further := following()) is not None:
                joined.append(further)
                if further[1].count(b'"') % 2:
                    break
            record = b"".join([line, *(part for _, part in joined)]).rstrip(b"\r\n")
            if _is_whole(record, len(header)):
                text = record
            else:
                ahead.extendleft(reversed(joined))
                reason = "a quoted value is never closed"
        if text:
            yield number, text, reason if len(text) <= _LONGEST_LINE else "longer than a line may be"


def _is_whole(record: bytes, width: int) -> bool:
    try:
        rows = list(csv.reader(record.decode("utf-8", "replace").splitlines(keepends=True), strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == width


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, out of gzip or out of a zip with one file in it."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = [
                    member
                    for member in archive.infolist()
                    if not member.is_dir() and not member.filename.startswith("__MACOSX/")
                ]
                if len(members) != 1:
                    raise HindcastError(f"{path} must hold one file, and holds {len(members)}.")
                with archive.open(members[0]) as member:
                    yield BufferedReader(member, 1 << 20)  # type: ignore[type-var]
        else:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
                yield cast(IO[bytes], stream)
    except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise HindcastError(f"{path} is damaged and can't be unpacked: {error}") from error
