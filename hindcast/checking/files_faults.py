"""Faults of a sources file against the data files: columns, types, keys, and since when rows are said to be known."""

import tempfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from hindcast.checking.fault import Fault, did_you_mean
from hindcast.checking.settings_faults import span_of
from hindcast.errors import HindcastError
from hindcast.problem import Problem
from hindcast.sources import Sources, SourceTable
from hindcast.sql import identifier, identifiers, text_literal, without_zone

_MOST_ROWS = 400_000  # of a table; more aren't looked at
_TRIED_ROWS = 20_000  # of those, spread over the file, on which expressions are tried


class FilesCheck:
    """Looks at the first rows of a domain's files, in DuckDB's memory.

    Args:
        file: The sources file, for the faults.
        root: The checkout.
        sources: The file's content.
    """

    def __init__(self, file: Path, root: Path, sources: Sources) -> None:
        self._file, self._root, self._sources = file, root, sources
        self.faults: list[Fault] = []
        self.known: dict[str, tuple[datetime, datetime]] = {}
        """Per table the first and the last instant (UTC) at which one of its rows was known."""
        with duckdb.connect() as self._connection, tempfile.TemporaryDirectory() as self._scratch:
            self._connection.execute("SET timezone = 'UTC'; CREATE SCHEMA raw")
            for name, table in sources.tables.items():
                if self._load(name, table):
                    self._place(name, table)
        self._check_clock()

    def check_windows(self, file: Path, problem: Problem) -> list[Fault]:
        """Faults of a problem's windows, as of the clock's start, against the dates in the data."""
        clock = self._sources.clock
        if not clock or not self.known:
            return []
        first, last = min(low for low, _ in self.known.values()), max(high for _, high in self.known.values())
        start, faults = without_zone(clock.start), []
        for name in ("train", "validation", "test"):
            begins, ends = (start + timedelta(days=days) for days in span_of(problem, name))
            if ends <= first or begins >= last:
                said = f"{begins:%Y-%m-%d} to {ends:%Y-%m-%d} as of the clock's start, and the data is known from "
                faults.append(Fault(file, f"splits.{name}", f"{said}{first:%Y-%m-%d} to {last:%Y-%m-%d}."))
        return faults

    def _say(self, key: str, what: str) -> None:
        self.faults.append(Fault(self._file, key, what))

    def _load(self, name: str, table: SourceTable) -> bool:
        """Makes `raw.<name>` of the files, with the declared types; says what doesn't fit."""
        key = f"tables.{name}"
        try:
            paths = [self._readable(path) for path in self._sources.files(name, self._root).values()]
        except HindcastError as error:
            self._say(f"{key}.file", str(error))
            return False
        relation = _relation(table, paths)
        try:
            there = [str(row[0]) for row in self._connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
        except duckdb.Error as error:
            self._say(f"{key}.file", f"{paths[0]} can't be read as {table.format}: {_first_line(error)}")
            return False
        absent = [column for column in table.columns if column not in there]
        for column in absent:
            self._say(f"{key}.columns.{column}", f"{paths[0].name} has no such column; {did_you_mean(column, there)}")
        for column, kind in table.columns.items():
            try:
                self._connection.execute(f"SELECT CAST(NULL AS {kind})")
            except duckdb.Error:
                self._say(
                    f"{key}.columns.{column}", f"DuckDB knows no type {kind}, as INTEGER, DOUBLE, VARCHAR, TIMESTAMP."
                )
                absent.append(column)
        if absent:
            return False
        chosen = ", ".join(
            f"TRY_CAST({identifier(c)} AS {kind}) AS {identifier(c)}" for c, kind in table.columns.items()
        )
        self._connection.execute(
            f"CREATE TEMP TABLE texts AS SELECT {identifiers(table.columns)} FROM {relation} LIMIT {_MOST_ROWS}"
        )
        self._connection.execute(f"CREATE TABLE raw.{identifier(name)} AS SELECT {chosen} FROM texts")
        self._check_types(key, table)
        self._connection.execute("DROP TABLE texts")
        return True

    def _check_types(self, key: str, table: SourceTable) -> None:
        for column, kind in table.columns.items():
            name = identifier(column)
            rows, bad, example = self._row(
                f"SELECT count(*), count(*) FILTER (bad), min({name}) FILTER (bad) FROM "
                f"(SELECT {name}, {name} IS NOT NULL AND TRY_CAST({name} AS {kind}) IS NULL AS bad FROM texts)"
            )
            if rows and bad > table.max_rejected_share * rows:
                self._say(
                    f"{key}.columns.{column}",
                    f"{bad:,} of {rows:,} values aren't {kind}, e.g. {str(example)[:40]!r}: declare another type, or "
                    "the text among nulls if it stands for a missing value.",
                )

    def _place(self, name: str, table: SourceTable) -> None:
        """Tries each expression on the rows, lookups and derived values as ingestion has them."""
        key = f"tables.{name}"
        spread = f"SELECT * FROM raw.{identifier(name)} USING SAMPLE reservoir({_TRIED_ROWS} ROWS) REPEATABLE (1)"
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE tried AS {spread}")
        rows = "(SELECT * FROM tried)"
        for called, lookup in table.lookups.items():
            match = " AND ".join(
                f"l.{identifier(there)} = t.{identifier(here)}" for there, here in lookup.match.items()
            )
            joined = (
                f"(SELECT t.*, l.{identifier(lookup.column)} AS {called} FROM {rows} t "
                f"LEFT JOIN raw.{identifier(lookup.table)} l ON {match})"
            )
            if not self._runs(f"{key}.lookups.{called}", f"SELECT * FROM {joined} LIMIT 0"):
                return
            rows = joined
        for called, expression in table.derived.items():
            if not self._runs(f"{key}.derived.{called}", f"SELECT {expression} FROM {rows} LIMIT 1000"):
                return
            rows = f"(SELECT *, TRY({expression}) AS {called} FROM {rows})"
        if table.month:
            self._instant(f"{key}.month", table.month, rows, table)
        if table.known.at and (found := self._instant(f"{key}.known.at", table.known.at, rows, table)):
            self.known[name] = found
        for called, group in table.known.later.items():
            filled = " OR ".join(f"{identifier(column)} IS NOT NULL" for column in group.columns)
            self._instant(f"{key}.known.later.{called}.at", group.at, f"(SELECT * FROM {rows} WHERE {filled})", table)
        if table.key and table.known.corrections == "arrival":
            self._check_key(key, name, table)

    def _check_key(self, key: str, name: str, table: SourceTable) -> None:
        columns = identifiers(table.key)
        rows, twice = self._row(
            f"SELECT sum(n), coalesce(sum(n) FILTER (n > 1), 0) FROM "
            f"(SELECT count(*) AS n FROM raw.{identifier(name)} GROUP BY {columns})"
        )
        if rows and twice > table.max_rejected_share * rows:
            example = self._row(
                f"SELECT {columns} FROM raw.{identifier(name)} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
            )
            self._say(
                f"{key}.key",
                f"{', '.join(table.key)} name several rows: {int(twice):,} of {int(rows):,} share theirs, e.g. "
                f"{', '.join(map(str, example))}. Name further columns.",
            )

    def _runs(self, key: str, sql: str) -> bool:
        try:
            self._connection.execute(sql).fetchall()
        except duckdb.Error as error:
            self._say(key, f"the expression fails: {_first_line(error)}")
            return False
        return True

    def _instant(self, key: str, expression: str, rows: str, table: SourceTable) -> tuple[datetime, datetime] | None:
        """Checks that an expression gives an instant in nearly every row; returns the first and the last."""
        if not self._runs(key, f"SELECT {expression} FROM {rows} LIMIT 1000"):
            return None
        (kind,) = self._row(f"SELECT typeof({expression}) FROM {rows} LIMIT 1") or ("",)
        if kind and not kind.startswith(("TIMESTAMP", "DATE")) and kind != '"NULL"':
            self._say(key, f"it gives {kind}, not an instant. Cast it, as in CAST(… AS TIMESTAMP).")
            return None
        at = f"CAST(TRY({expression}) AS TIMESTAMP)"
        total, empty, first, last = self._row(
            f"SELECT count(*), count(*) - count({at}), min({at}), max({at}) FROM {rows}"
        )
        if total and empty > table.max_rejected_share * total:
            self._say(
                key,
                f"it is NULL in {empty:,} of {total:,} rows that have a value: each needs an instant. "
                "Where nothing says when, write how long after, as in coalesce(…, … + INTERVAL 30 DAY).",
            )
        return (first, last) if first is not None else None

    def _check_clock(self) -> None:
        clock = self._sources.clock
        if clock and clock.demo_until < clock.start:
            self._say("clock.demo_until", f"{clock.demo_until:%Y-%m-%d} is before clock.start, {clock.start:%Y-%m-%d}.")
        if not clock or not self.known:
            return
        first, last = min(low for low, _ in self.known.values()), max(high for _, high in self.known.values())
        if not first < without_zone(clock.start) <= last + timedelta(days=1):
            self._say(
                "clock.start",
                f"{clock.start:%Y-%m-%d} lies outside of the data, which is known from {first:%Y-%m-%d} to "
                f"{last:%Y-%m-%d}.",
            )

    def _row(self, sql: str) -> tuple[Any, ...]:
        return self._connection.execute(sql).fetchone() or ()

    def _readable(self, path: Path) -> Path:
        if path.suffix != ".zip":
            return path
        try:
            with zipfile.ZipFile(path) as archive:
                (name,) = archive.namelist()
                return Path(archive.extract(name, self._scratch))
        except (zipfile.BadZipFile, ValueError) as error:
            raise HindcastError(f"{path} isn't a zip with exactly one file in it.") from error


def _relation(table: SourceTable, paths: list[Path]) -> str:
    files = f"[{', '.join(text_literal(str(path)) for path in paths)}]"
    if table.format == "parquet":
        return f"read_parquet({files})"
    if table.format == "jsonl":
        kinds = ", ".join(f"{text_literal(column)}: 'VARCHAR'" for column in table.columns)
        return f"read_json({files}, format = 'newline_delimited', columns = {{{kinds}}})"
    nulls = ", ".join(map(text_literal, table.nulls or ("",)))
    return (
        f"read_csv({files}, header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"', "
        f"nullstr = [{nulls}], ignore_errors = true)"
    )


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]
