"""The log of requests: durable lines while serving, then rows of the lake, each exactly once.

What a record says about a prediction is decided in `predict`; nothing here serves or reads features.
"""

import fcntl
import json
import os
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindcast.clock import WallClock
from hindcast.serving.log_record import COLUMNS, read_records, rows_of
from hindcast.sql import identifier, identifiers

if TYPE_CHECKING:  # the service writes the log and has no lake
    import duckdb

    from hindcast.lake import Lake

_as_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

_FILE_BYTES = 64 * 1024 * 1024
_BATCH_BYTES = 32 * 1024 * 1024

REQUESTS, SHADOW = "requests", "shadow_requests"
"""Tables in the problem's own schema: what was answered, and what a challenger would have said."""


class RequestLog:
    """One process's append-only file of records: one JSON object per line, on its way to disk before an answer.

    A line is handed to the kernel by one `write`, so it survives the death of the process in any form; it
    isn't forced to the platter, so the last seconds before a power cut may be lost. While a file is written to, it
    is locked; the kernel releases the lock of a process that dies.

    Args:
        folder: Where the files lie; each process writes files of its own, of names never used again.
        file_bytes: A file that has reached this size is left alone and a new one begun.
    """

    def __init__(self, folder: Path, file_bytes: int = _FILE_BYTES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._descriptor: int | None = None
        self._size = 0
        self._torn = False
        self._lock = threading.Lock()

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Writes the records, all of them or with an error.

        Raises:
            OSError: The disk is full or can't be written. Some of the records may be in the file; none of
                them may be answered for.
        """
        lines = "".join(_as_json(record) + "\n" for record in records)
        with self._lock:
            if self._descriptor is None or self._size >= self._file_bytes:
                self._begin_file()
            assert self._descriptor is not None
            # What a failed write left is closed off by a line end; cutting it off could move what a reader has counted.
            data = (b"\n" if self._torn else b"") + lines.encode()
            while data:
                written = os.write(self._descriptor, data)
                self._size += written
                self._torn = written < len(data)
                data = data[written:]

    def close(self) -> None:
        """Closes the file; a later record begins a new one."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _begin_file(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        there = False
        while not there:
            path = self._folder / f"{os.getpid()}-{uuid.uuid4().hex}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            there = os.fstat(descriptor).st_nlink > 0  # else it was deleted before it was locked
            if not there:
                os.close(descriptor)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._size, self._torn = descriptor, 0, False


@dataclass(frozen=True)
class Compaction:
    """What a compaction did, and what the table holds after it.

    Attributes:
        added: Records that became rows now.
        duplicates: Lines read now whose id was a row already; the first one stays.
        torn: Lines that aren't records, over all files: mostly what a killed process or a full disk left unfinished.
        rows: Rows of the table.
        deleted: Files that were old enough to go.
    """

    added: int
    duplicates: int
    torn: int
    rows: int
    deleted: int = 0


def compact(folder: Path, lake: "Lake", table: str, entity_key: str, keep: timedelta | None = None) -> Compaction:
    """Moves what was logged since the last time into a table, each record exactly once; then lets old files go.

    Rows and the position up to which each file has been read land in one transaction: after a kill at any
    moment both are there or neither is. A record is known by its id. Only whole lines are read. A file is
    deleted when all of it is in the lake, nobody writes to it, and its last write is older than `keep`.

    Args:
        folder: Of the log's files.
        lake: Gets the table, and `log.consumed`: per file how far it has been read, of deleted ones, too.
        table: `schema.table`, of the problem.
        entity_key: Join key that names the entity; a column of this name holds its value as text.
        keep: How long files stay after their last record; None is for ever.

    Raises:
        HindcastError: A file is of a later version of this code; it stays as it is, and no other is deleted.
    """
    added = duplicates = 0
    more = True
    while more:
        with lake.writing() as connection:
            _create_tables(connection, entity_key, table)
            pieces = list(_unread(folder, _consumed(connection), _BATCH_BYTES))
            more = sum(len(piece.lines) for piece in pieces) >= _BATCH_BYTES // 2
            parsed = [read_records(piece.lines, piece.file, entity_key) for piece in pieces]
            records = [record for good, _ in parsed for record in good]
            if pieces:
                _note_positions(connection, pieces, [torn for _, torn in parsed], table)
            new = _insert(connection, records, entity_key, table) if records else 0
            rows, torn_lines = connection.execute(
                f"SELECT (SELECT count(*) FROM {table}), "
                '(SELECT coalesce(sum(torn), 0) FROM log.consumed WHERE "table" = ?)',
                [table],
            ).fetchall()[0]
        added += new
        duplicates += len(records) - new
    torn_lines += _unfinished(folder)
    deleted = 0 if keep is None else _delete_old(folder, lake, keep)
    return Compaction(added, duplicates, int(torn_lines), int(rows), deleted)


def logged_ids(folder: Path, lake: "Lake", table: str) -> set[str]:
    """Ids of all records that were ever logged, in the lake or still only in files.

    Raises:
        HindcastError: A file is of a later version of this code.
    """
    ids: set[str] = set()
    consumed: dict[str, int] = {}
    if lake.exists(table):
        with lake.reading() as connection:
            ids = {row[0] for row in connection.execute(f"SELECT id FROM {table}").fetchall()}
            consumed = _consumed(connection)
    while pieces := list(_unread(folder, consumed, _BATCH_BYTES)):
        for piece in pieces:
            ids |= {record["id"] for record in read_records(piece.lines, piece.file)[0]}
            consumed[piece.file] = piece.end
    return ids


def prediction_columns(outputs: Sequence[str]) -> str:
    """SQL, after `SELECT`, of a table's predictions as one column per output of the task.

    What to read them from is `log_record.rows_of`, where nothing need have been compacted before.
    """
    return ", ".join(f"prediction[{number}] AS {identifier(name)}" for number, name in enumerate(outputs, 1))


@dataclass(frozen=True)
class _Piece:
    """Whole lines of one file, up to byte `end`."""

    file: str
    end: int
    lines: bytes


def _create_tables(connection: "duckdb.DuckDBPyConnection", entity_key: str, table: str) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute("CREATE SCHEMA IF NOT EXISTS log")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}")
    connection.execute(f'CREATE TABLE IF NOT EXISTS {table} ("{entity_key}" VARCHAR, {columns})')
    if (in_todays_form := rows_of(connection, table)) != table:
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {in_todays_form}")
    connection.execute(
        'CREATE TABLE IF NOT EXISTS log.consumed (file VARCHAR, "offset" BIGINT, torn BIGINT, "table" VARCHAR)'
    )


def _consumed(connection: "duckdb.DuckDBPyConnection") -> dict[str, int]:
    return dict(connection.execute('SELECT file, "offset" FROM log.consumed').fetchall())


def _note_positions(connection: "duckdb.DuckDBPyConnection", pieces: list[_Piece], torn: list[int], table: str) -> None:
    import polars

    frame = polars.DataFrame(
        {"file": [piece.file for piece in pieces], "offset": [piece.end for piece in pieces], "torn": torn}
    ).with_columns(polars.lit(table).alias("table"))
    connection.register("new_positions", frame.to_arrow())
    connection.execute(
        "MERGE INTO log.consumed AS old USING new_positions AS new ON old.file = new.file "
        'WHEN MATCHED THEN UPDATE SET "offset" = new."offset", torn = old.torn + new.torn '
        "WHEN NOT MATCHED THEN INSERT BY NAME"
    )
    connection.unregister("new_positions")


def _unread(folder: Path, consumed: Mapping[str, int], limit: int) -> Iterator[_Piece]:
    """Pieces of files not read yet, about `limit` bytes in all; none where nothing whole is left."""
    for path in sorted(folder.glob("*.jsonl")):
        start = consumed.get(path.name, 0)
        data = b""
        with suppress(FileNotFoundError), path.open("rb") as file:  # another compaction may have deleted it by now
            if limit <= 0 or file.seek(0, os.SEEK_END) <= start:
                continue
            file.seek(start)
            data = file.read(limit)
            if b"\n" not in data:  # a line longer than what was asked for, or the unfinished last one
                data += file.readline()
        lines = data[: data.rfind(b"\n") + 1]
        limit -= len(data)
        if lines:
            yield _Piece(path.name, start + len(lines), lines)


def _insert(connection: "duckdb.DuckDBPyConnection", rows: list[dict[str, Any]], entity_key: str, table: str) -> int:
    """Adds the rows whose id isn't in the table yet, the first of each id; returns how many."""
    import polars

    kinds: dict[str, Any] = {
        "TIMESTAMP": polars.Datetime("us"),
        "BIGINT": polars.Int64,
        "DOUBLE": polars.Float64,
        "DOUBLE[]": polars.List(polars.Float64),
        "VARCHAR[]": polars.List(polars.String),
    }
    schema: dict[str, Any] = {entity_key: polars.String} | {
        name: kinds.get(kind, polars.String) for name, kind in COLUMNS.items()
    }
    frame = polars.DataFrame(rows, schema=schema).unique("id", keep="first", maintain_order=True)
    connection.register("new_requests", frame.to_arrow())
    names = identifiers(schema)
    inserted = connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM new_requests ANTI JOIN {table} USING (id)"
    ).fetchall()
    connection.unregister("new_requests")
    return int(inserted[0][0])


def _unfinished(folder: Path) -> int:
    """Files whose last line has no end: written by a process that was killed, or this very moment."""
    count = 0
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                count += file.read(1) != b"\n"
    return count


def _delete_old(folder: Path, lake: "Lake", keep: timedelta) -> int:
    """Deletes the files that are over and wholly in the lake, as it stands after the commit; says how many."""
    deleted = 0
    oldest = (WallClock().now() - keep).timestamp()
    with lake.reading() as connection:
        consumed = _consumed(connection)
    for path in sorted(folder.glob("*.jsonl")):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while somebody writes to it
            state = os.fstat(file.fileno())
            if state.st_mtime <= oldest and state.st_size == consumed.get(path.name, 0):
                path.unlink()
                deleted += 1
    return deleted
