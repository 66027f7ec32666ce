"""Looks at data files: which tables they are, the type of each column, and what its values are like."""

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from hindcast.errors import HindcastError
from hindcast.sql import identifier, text_literal

_READERS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_NULL_TEXTS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_TIMES = ("DATE", "TIMESTAMP")
_NUMBERS = ("BOOLEAN", "INTEGER", "BIGINT", "DOUBLE")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: As the file has it.
        type: DuckDB type to declare: VARCHAR, BOOLEAN, INTEGER, BIGINT, DOUBLE, DATE or TIMESTAMP.
        distinct: Number of different values.
        missing: Number of NULLs.
    """

    name: str
    type: str
    distinct: int
    missing: int

    @property
    def is_time(self) -> bool:
        return self.type in _TIMES

    @property
    def is_number(self) -> bool:
        return self.type in _NUMBERS


@dataclass(frozen=True)
class Table:
    """Files of one table.

    Attributes:
        name: Of the table in the connection, and later in the lake.
        file: File name, or a glob for several.
        format: As a sources file names it.
        nulls: Texts that stand for a missing value.
        rows: Of all files together.
        columns: By name, in the file's order.
    """

    name: str
    file: str
    format: str
    nulls: tuple[str, ...]
    rows: int
    columns: dict[str, Column] = field(repr=False)

    @property
    def times(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.is_time]


def find_files(given: Sequence[Path]) -> tuple[Path, list[Path]]:
    """The data files that are meant, and the folder in which all of them lie.

    Args:
        given: Files, or one folder.

    Raises:
        HindcastError: There is none, one can't be read, or they lie in several folders.
    """
    if len(given) == 1 and given[0].is_dir():
        files = [path for path in sorted(given[0].iterdir()) if path.is_file() and _format(path)]
        if not files:
            raise HindcastError(f"{given[0]}: there is no .csv, .parquet or .jsonl file (.csv also as .gz or .zip).")
        return given[0].resolve(), files
    for path in given:
        if not path.is_file():
            raise HindcastError(f"--from {path}: there is no such file. Name files, or one folder.")
        if not _format(path):
            raise HindcastError(
                f"--from {path}: only .csv, .parquet and .jsonl files are read (.csv also .gz or .zip)."
            )
    folders = {path.resolve().parent for path in given}
    if len(folders) > 1:
        raise HindcastError(
            f"--from: put the files into one folder; these lie in {', '.join(map(str, sorted(folders)))}."
        )
    return folders.pop(), list(given)


def look_at(connection: duckdb.DuckDBPyConnection, problem: str, files: Iterable[Path], scratch: Path) -> list[Table]:
    """Loads files into tables of the connection; files of one name but for digits, with equal columns, are one table.

    Args:
        connection: In memory.
        problem: Name that tables' names begin with, as those of several domains must differ.
        files: As `find_files` gives them; the order is kept.
        scratch: For what is unpacked; the caller removes it.

    Raises:
        HindcastError: A file can't be read, is empty, or a column's name can't be declared.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[Path]] = {}
    for path in files:
        header = tuple(name for name, _ in _describe(connection, [_readable(path, scratch)], ()))
        stem = path.name.split(".")[0]
        groups.setdefault((re.sub(r"[\W_]*\d[\d\W_]*$", "", stem) or stem, _format(path), header), []).append(path)
    tables, taken = [], set()
    for (stem, kind, _), paths in groups.items():
        name = re.sub(r"\W+", "_", stem if len(paths) > 1 else paths[0].name.split(".")[0]).strip("_").lower()
        name = name if name == problem or name.startswith(f"{problem}_") else f"{problem}_{name}"
        if name in taken:
            raise HindcastError(f"--from: two files would both become the table {name}; rename one of {paths[0].name}.")
        taken.add(name)
        pattern = paths[0].name if len(paths) == 1 else f"{stem}*{''.join(paths[0].suffixes)}"
        tables.append(_load(connection, name, kind, pattern, [_readable(path, scratch) for path in paths]))
    return tables


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zip"):
        return "csv" if ".csv" in suffixes else ""
    return _READERS.get(suffixes[-1], "") if suffixes else ""


def _load(connection: duckdb.DuckDBPyConnection, name: str, kind: str, pattern: str, paths: Sequence[Path]) -> Table:
    nulls = _null_texts(connection, paths) if kind == "csv" else ()
    types = {column: _declared(found) for column, found in _describe(connection, paths, nulls)}
    for column in types:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", column):
            raise HindcastError(
                f"{paths[0]}: the column {column!r} can't be declared. Rename it in the file: a letter, then letters, "
                "digits and underscores."
            )
    codes = dict.fromkeys(_with_leading_zeros(connection, paths, types), "VARCHAR") if kind == "csv" else {}
    types |= codes
    chosen = ", ".join(
        f"CAST({identifier(column)} AS {declared}) AS {identifier(column)}" for column, declared in types.items()
    )
    try:
        connection.execute(f"CREATE TABLE {identifier(name)} AS SELECT {chosen} FROM {_relation(paths, nulls, codes)}")
    except duckdb.Error as error:
        raise HindcastError(f"{paths[0]} can't be read as {kind}: {str(error).splitlines()[0]}") from error
    facts = ", ".join(f"count(DISTINCT {identifier(column)}), count({identifier(column)})" for column in types)
    found = connection.execute(f"SELECT count(*), {facts} FROM {identifier(name)}").fetchone() or (0,)
    rows = found[0]
    if not rows:
        raise HindcastError(f"{paths[0]}: the file has no rows.")
    columns = {
        column: Column(column, types[column], found[1 + 2 * at], rows - found[2 + 2 * at])
        for at, column in enumerate(types)
    }
    return Table(name, pattern, kind, ("", *nulls), rows, columns)


def _declared(found: str) -> str:
    if found.startswith("TIMESTAMP"):
        return "TIMESTAMP"
    if found in ("TINYINT", "SMALLINT", "UTINYINT", "USMALLINT", "INTEGER"):
        return "INTEGER"
    if found in ("BIGINT", "UINTEGER"):
        return "BIGINT"
    if found in ("FLOAT", "DOUBLE", "HUGEINT", "UBIGINT") or found.startswith("DECIMAL"):
        return "DOUBLE"
    return found if found in ("BOOLEAN", "DATE") else "VARCHAR"


def _relation(paths: Sequence[Path], nulls: Sequence[str], types: dict[str, str] | None = None) -> str:
    names = f"[{', '.join(text_literal(str(path)) for path in paths)}]"
    kind = _format(paths[0])
    if kind == "parquet":
        return f"read_parquet({names})"
    if kind == "jsonl":
        return f"read_json({names}, format = 'newline_delimited')"
    texts = ", ".join(map(text_literal, ("", *nulls)))
    given = ", ".join(f"{text_literal(name)}: '{kind}'" for name, kind in (types or {}).items())
    return (
        f"read_csv({names}, header = true, delim = ',', quote = '\"', escape = '\"', sample_size = -1, "
        f"nullstr = [{texts}]" + (f", types = {{{given}}}" if given else "") + ")"
    )


def _describe(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], nulls: Sequence[str]
) -> list[tuple[str, str]]:
    try:
        found = connection.execute(f"DESCRIBE SELECT * FROM {_relation(paths, nulls)}").fetchall()
    except duckdb.Error as error:
        raise HindcastError(f"{paths[0]} can't be read: {str(error).splitlines()[0]}") from error
    return [(row[0], row[1]) for row in found]


def _readable(path: Path, scratch: Path) -> Path:
    """The file itself, or what is in the zip around it, which DuckDB doesn't open."""
    if path.suffix.lower() != ".zip":
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = archive.namelist()
            return Path(archive.extract(name, scratch / path.name))
    except (zipfile.BadZipFile, ValueError) as error:
        raise HindcastError(f"{path}: it isn't a zip with exactly one file in it.") from error


def _null_texts(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> tuple[str, ...]:
    """Texts as NA that stand in a column of numbers or times; in a column of texts they may be values."""
    plain, read = dict(_describe(connection, paths, ())), dict(_describe(connection, paths, _NULL_TEXTS))
    spoilt = [name for name, kind in plain.items() if kind == "VARCHAR" and read[name] != "VARCHAR"]
    if not spoilt:
        return ()
    texts = f"SELECT DISTINCT unnest([{', '.join(map(identifier, spoilt))}]) AS text FROM {_relation(paths, (), plain)}"
    found = {text for (text,) in connection.execute(texts).fetchall()}
    return tuple(text for text in _NULL_TEXTS if text in found)


def _with_leading_zeros(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], types: dict[str, str]
) -> list[str]:
    """Columns that look like integers and are codes: 00123 is not 123."""
    whole = [name for name, kind in types.items() if kind in ("INTEGER", "BIGINT")]
    if not whole:
        return []
    as_text = _relation(paths, (), dict.fromkeys(types, "VARCHAR"))
    asked = ", ".join(f"coalesce(bool_or(regexp_matches({identifier(name)}, '^-?0[0-9]')), false)" for name in whole)
    found = connection.execute(f"SELECT {asked} FROM {as_text}").fetchone() or ()
    return [name for name, coded in zip(whole, found, strict=True) if coded]
