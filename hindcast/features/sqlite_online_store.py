"""The online store over SQLite: what `online_store` promises, in one file of the home."""

import itertools
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field

from hindcast.errors import HindcastError
from hindcast.features.feast_imports import (
    EntityKey,
    FeastConfigBaseModel,
    FeatureView,
    RepoConfig,
    Value,
    extract_text_and_num,
)
from hindcast.features.online_store import (
    Filling,
    Held,
    HeldRow,
    NewestOnlineStore,
    Row,
    State,
    can_be_asked_for,
    common_state,
    online_name,
    serialized,
)
from hindcast.settings import Settings
from hindcast.sql import identifier

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEYS_PER_QUERY = 10_000  # SQLite takes 32,766 parameters


class NewestSqliteOnlineStoreConfig(FeastConfigBaseModel):
    """The section `online_store` of `feature_store.yaml`."""

    type: Any = "hindcast.features.sqlite_online_store.NewestSqliteOnlineStore"
    path: str = Field(default_factory=lambda: str(Settings.from_environment().online_store))
    """Where left out, the home's."""


class NewestSqliteOnlineStore(NewestOnlineStore):
    """Its readers never wait for a writer.

    Tables are like those of Feast's own SQLite store, but that instants are microseconds since 1970 (UTC): Feast's are
    whole seconds of the machine's time zone, an hour off where its clock is put forward.
    """

    _connection: sqlite3.Connection | None = None

    def fill(
        self,
        config: RepoConfig,
        fillings: Sequence[Filling],
        known_until: datetime,
        snapshot: int,
    ) -> None:
        """See `NewestOnlineStore.fill`: one transaction."""
        with self._transaction(config, "BEGIN IMMEDIATE") as connection:
            for view, rows, afresh in fillings:
                name = online_name(config, view)
                _create(connection, config, name)
                if afresh:
                    connection.execute(f"DELETE FROM {identifier(name)}")
                    connection.execute("UPDATE filled_views SET known_until = NULL WHERE name = ?", [name])
                _write(connection, config, name, rows)
                connection.execute(
                    "UPDATE filled_views SET known_until = max(?, ifnull(known_until, 0)), snapshot = ? WHERE name = ?",
                    [_microseconds(known_until), snapshot, name],
                )

    def filled(self, config: RepoConfig) -> dict[str, datetime]:
        """See `NewestOnlineStore.filled`."""
        with self._transaction(config, "BEGIN") as connection:
            return {name: state[0] for name, state in _states(connection, config).items() if state}

    def keep_only(self, config: RepoConfig, names: Collection[str]) -> None:
        """See `NewestOnlineStore.keep_only`: one transaction."""
        with self._transaction(config, "BEGIN IMMEDIATE") as connection:
            for name in _states(connection, config):
                if name not in names:
                    connection.execute(f"DROP TABLE IF EXISTS {identifier(name)}")
                    connection.execute("DELETE FROM filled_views WHERE name = ?", [name])

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Feast's own way in: writes rows, except where the store holds something newer."""
        name = online_name(config, table)
        with self._transaction(config, "BEGIN IMMEDIATE") as connection:
            _create(connection, config, name)
            _write(connection, config, name, data)
        if progress:
            progress(len(data))

    def read_views(self, config: RepoConfig, asked: Sequence[tuple[str, Sequence[EntityKey], Sequence[str]]]) -> Held:
        """See `NewestOnlineStore.read_views`: one transaction, one query per view."""
        with self._transaction(config, "BEGIN") as connection:
            states = _states(connection, config)
            known_until, snapshot = common_state(config, [name for name, *_ in asked], states)
            rows = [
                _rows(connection, config, name, keys, features) if name in states else [None] * len(keys)
                for name, keys, features in asked
            ]
        return Held(rows, known_until, snapshot)

    def _connect(self, config: RepoConfig) -> sqlite3.Connection:
        if self._connection is None:
            path = Path(config.repo_path or "", config.online_store.path)  # the second, where it is absolute
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(str(path), check_same_thread=False)
            connection.isolation_level = None  # transactions are begun and ended here alone
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("PRAGMA journal_mode = WAL")  # readers don't wait for a writer
            connection.execute("PRAGMA synchronous = NORMAL")
            self._connection = connection
        return self._connection

    @contextmanager
    def _transaction(self, config: RepoConfig, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connect(config)
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise HindcastError(f"The online store {config.online_store.path} can't be used: {error}.") from error


def _create(connection: sqlite3.Connection, config: RepoConfig, name: str) -> None:
    """Makes the table of a view, and its entry among those that say how far each is filled, where there is none."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS filled_views "
        "(name TEXT PRIMARY KEY, project TEXT, known_until INTEGER, snapshot INTEGER)"
    )
    connection.execute("INSERT OR IGNORE INTO filled_views (name, project) VALUES (?, ?)", [name, config.project])
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {identifier(name)} (entity_key BLOB, feature_name TEXT, value BLOB, "
        "value_text TEXT, event_ts INTEGER, created_ts INTEGER, PRIMARY KEY (entity_key, feature_name))"
    )


def _states(connection: sqlite3.Connection, config: RepoConfig) -> dict[str, State | None]:
    """Of the project's views that the store holds."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'filled_views'").fetchall():
        return {}
    found = connection.execute(
        "SELECT name, known_until, snapshot FROM filled_views WHERE project = ?", [config.project]
    )
    return {name: None if until is None else (_instant(until), snapshot) for name, until, snapshot in found}


def _write(connection: sqlite3.Connection, config: RepoConfig, name: str, rows: Sequence[Row]) -> None:
    cells = itertools.chain.from_iterable(_cells(config, row) for row in rows if can_be_asked_for(row))
    connection.executemany(
        f"INSERT INTO {identifier(name)} AS held (entity_key, feature_name, value, value_text, event_ts, "
        "created_ts) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
        "value = excluded.value, value_text = excluded.value_text, event_ts = excluded.event_ts, "
        "created_ts = excluded.created_ts WHERE (excluded.event_ts, ifnull(excluded.created_ts, excluded.event_ts)) "
        ">= (held.event_ts, ifnull(held.created_ts, held.event_ts))",
        cells,
    )


def _cells(config: RepoConfig, row: Row) -> Iterator[tuple[Any, ...]]:
    entity_key, values, event_ts, created_ts = row
    key, event = serialized(config, entity_key), _microseconds(event_ts)
    created = None if created_ts is None else _microseconds(created_ts)
    for feature, value in values.items():
        yield key, feature, value.SerializeToString(), extract_text_and_num(value, False)[0], event, created


def _rows(
    connection: sqlite3.Connection,
    config: RepoConfig,
    name: str,
    entity_keys: Sequence[EntityKey],
    features: Sequence[str],
) -> list[HeldRow | None]:
    keys = [serialized(config, key) for key in entity_keys]
    found: dict[bytes, tuple[tuple[int, int], HeldRow]] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        chunk = keys[start : start + _KEYS_PER_QUERY]
        for key, feature, value, event, created in connection.execute(
            f"SELECT entity_key, feature_name, value, event_ts, created_ts FROM {identifier(name)} "
            f"WHERE entity_key IN ({', '.join('?' * len(chunk))})",
            chunk,
        ):
            version = event, event if created is None else created
            held = found.get(key)
            if held is None or version > held[0]:  # a cell may be left from before the view lost that feature
                row = HeldRow(_instant(event), None if created is None else _instant(created), {})
                held = found[key] = version, row
            if version == held[0] and feature in features:
                held[1].values[feature] = Value.FromString(value)
    return [found[key][1] if key in found else None for key in keys]


def _microseconds(instant: datetime) -> int:
    """Since 1970; an instant without a zone is UTC."""
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
