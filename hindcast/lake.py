"""The one way to the tables: a DuckLake, read at any of its snapshots and written by one writer at a time.

What a table holds is not known here; where the files lie is known only to `settings`.
"""

import importlib.util
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb

from hindcast.errors import HindcastError
from hindcast.files import exclusive
from hindcast.fingerprint import fingerprint
from hindcast.settings import Settings
from hindcast.sql import table_identifier, text_literal

_IDENTITY = "control.lake"
# DuckDB looks an extension up by its own name, which isn't always the wheel's.
_EXTENSION_WHEELS = {"sqlite_scanner": "sqlite", "ducklake": "ducklake"}


@dataclass(frozen=True)
class Lake:
    """All tables of one home.

    Attributes:
        settings: Where catalogue and data lie.
        memory_limit: DuckDB's limit; past it queries spill to the home's scratch folder.
    """

    settings: Settings
    memory_limit: str = "4GB"

    @contextmanager
    def reading(
        self, snapshot: int | None = None, config: Mapping[str, str] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with the lake attached read-only as `lake` and in use: `FROM schema.table`.

        Args:
            snapshot: Reads every table as it was at this snapshot; None reads the newest.
            config: DuckDB's settings for this reading. They are the engine's, so that to `SET` one on the connection
                would change it for other readers of this process, too.

        Raises:
            HindcastError: There is no lake yet, it is of another format, or it has no such snapshot.
        """
        if not self.settings.lake_catalogue.exists():
            raise HindcastError(f"No lake at {self.settings.lake_catalogue} yet: `hindcast run` makes it.")
        options = ["READ_ONLY"] + ([f"SNAPSHOT_VERSION {int(snapshot)}"] if snapshot is not None else [])
        connection = self._connect(options, config or {})
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection inside one transaction: all of it lands as one snapshot, or none of it.

        Writers of all processes take turns (see `turn`); readers never wait.
        """
        with self.turn():
            if not self.settings.lake_catalogue.exists():
                _open(self, [], {}).close()  # makes it
            connection = self._connect([], {})
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()  # what wasn't committed is rolled back

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The writers' lock, for tools that open the lake by themselves (dbt). Not re-entrant."""
        with exclusive(self.settings.locks / "lake-writer"):
            yield

    def snapshot(self) -> int:
        """Number of the newest snapshot: the data's version."""
        with self.reading() as connection:
            return current_snapshot(connection)

    def identity(self) -> str:
        """UUID of this lake, kept in it and made when it is first asked for: a copy has it too, another lake hasn't."""
        if self.exists(_IDENTITY):
            with self.reading() as connection:
                return str(connection.execute(f"SELECT id FROM {_IDENTITY}").fetchall()[0][0])
        with self.writing() as connection:
            if not has_table(connection, _IDENTITY):  # else somebody else was first
                connection.execute("CREATE SCHEMA IF NOT EXISTS control")
                connection.execute(f"CREATE TABLE {_IDENTITY} (id VARCHAR)")
                connection.execute(f"INSERT INTO {_IDENTITY} VALUES (?)", [str(uuid.uuid4())])
            return str(connection.execute(f"SELECT id FROM {_IDENTITY}").fetchall()[0][0])

    def exists(self, table: str) -> bool:
        """Whether `schema.table` is in the newest snapshot; False where there is no lake yet."""
        if not self.settings.lake_catalogue.exists():
            return False
        with self.reading() as connection:
            return has_table(connection, table)

    def install_extensions(self) -> None:
        """Makes the extensions' wheels findable for DuckDB in any process, without a download."""
        platform = duckdb.connect().execute("PRAGMA platform").fetchall()[0][0]
        folder = self.settings.duckdb_extensions / f"v{duckdb.__version__}" / platform
        folder.mkdir(parents=True, exist_ok=True)
        for extension, wheel in _EXTENSION_WHEELS.items():
            link = folder / f"{extension}.duckdb_extension"
            package = importlib.util.find_spec(f"duckdb_extension_{wheel}")
            if package is None or not package.submodule_search_locations:
                raise HindcastError(f"The package duckdb-extension-{wheel} is missing: `make setup` installs it.")
            file = Path(
                package.submodule_search_locations[0],
                "extensions",
                f"v{duckdb.__version__}",
                f"{wheel}.duckdb_extension",
            )
            if not (link.is_symlink() and link.readlink() == file):
                link.unlink(missing_ok=True)
                link.symlink_to(file)

    def _connect(self, options: Sequence[str], config: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
        """A connection of its own in an engine that this process keeps: opening one and reading the catalogue's schema
        takes a hundred times as long."""
        file = self.settings.lake_catalogue.stat()
        engine = _engine(self, (file.st_dev, file.st_ino), tuple(options), tuple(sorted(config.items())))
        connection = engine.cursor()
        connection.execute("USE lake")
        return connection


@lru_cache(maxsize=4)
def _engine(
    lake: Lake, file: tuple[int, int], options: tuple[str, ...], config: tuple[tuple[str, str], ...]
) -> duckdb.DuckDBPyConnection:
    """The engine that is kept, per device and number of the catalogue's file: a home that was deleted and made anew is
    another one."""
    return _open(lake, options, dict(config))


def _open(lake: Lake, options: Iterable[str], config: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """DuckDB with the lake attached as `lake`.

    Raises:
        HindcastError: The lake can't be opened (with the reason).
    """
    settings = lake.settings
    lake.install_extensions()
    settings.lake_data.mkdir(parents=True, exist_ok=True)
    settings.scratch.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "extension_directory": str(settings.duckdb_extensions),
            # They come from wheels that the lock names by their hashes; DuckDB would hash 80 MB every time.
            "allow_unsigned_extensions": "true",
            "autoinstall_known_extensions": "false",
            "python_enable_replacements": "false",  # a Python variable is never taken for a table
            "memory_limit": lake.memory_limit,
            "temp_directory": str(settings.scratch / "duckdb"),
            "enable_external_file_cache": "false",  # a long-lived process would keep what it has once read
            **config,
        }
    )
    every = [
        *options,
        f"DATA_PATH {text_literal(f'{settings.lake_data}/')}",
        "OVERRIDE_DATA_PATH true",  # the catalogue remembers where the home was when it was made
        "META_JOURNAL_MODE 'WAL'",
        "META_BUSY_TIMEOUT 10000",
    ]
    connection.execute("LOAD sqlite; LOAD ducklake; LOAD icu; SET GLOBAL TimeZone = 'UTC'")
    try:
        catalogue = text_literal(f"ducklake:sqlite:{settings.lake_catalogue}")
        connection.execute(f"ATTACH {catalogue} AS lake ({', '.join(every)})")
    except duckdb.Error as error:
        connection.close()
        raise HindcastError(_why_not(str(error), settings.lake_catalogue)) from error
    return connection


def current_snapshot(connection: duckdb.DuckDBPyConnection) -> int:
    """Number of the snapshot that a connection's transaction reads."""
    return int(connection.execute("SELECT id FROM lake.current_snapshot()").fetchall()[0][0])


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Names and types of the columns of a table or query, given as SQL, in their order."""
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}


def check_columns(connection: duckdb.DuckDBPyConnection, table: str, wanted: Iterable[str], needed_by: str) -> None:
    """Raises:
    HindcastError: `schema.table` lacks one of the columns that it is wanted for.
    """
    there = columns_of(connection, table_identifier(table))
    if absent := [name for name in dict.fromkeys(wanted) if name not in there]:
        raise HindcastError(f"{table} has no column {', '.join(absent)}, which {needed_by} needs.")


def tables_of(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The tables and views of the lake that a connection reads, as `schema.table`."""
    # By their columns: to list tables, DuckLake reads the statistics of all of them, which takes ten times as long.
    sql = "SELECT DISTINCT schema_name || '.' || table_name FROM duckdb_columns() WHERE database_name = 'lake'"
    return {str(name) for (name,) in connection.execute(sql).fetchall()}


def has_table(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the table or view `schema.table` is in the lake that a connection reads."""
    return table in tables_of(connection)


def version_of(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """A version of the rows that a query gives, whatever their order: equal rows, equal version."""
    rows, mixed, summed = connection.execute(
        f"SELECT count(*), bit_xor(hash(content)), sum(hash(content)::HUGEINT) FROM ({query}) AS content"
    ).fetchall()[0]
    return fingerprint(values=[rows, mixed, summed])


def _why_not(message: str, catalogue: Path) -> str:
    """Why a lake can't be opened, in one sentence."""
    if found := re.search(r"catalog version is (\S+), but the extension requires version (\S+?)\.?\s", message):
        return (
            f"The lake at {catalogue} is of format {found[1]}, and this version of DuckLake reads {found[2]}: "
            "work in a new HINDCAST_HOME, or with the version that made it."
        )
    if found := re.search(r"[Nn]o snapshot found at version (\d+)", message):
        return f"The lake at {catalogue} has no snapshot {found[1]}."
    return f"The lake at {catalogue} can't be opened: {message.splitlines()[0]}"
