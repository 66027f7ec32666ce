"""Online stores that keep what is newest: what they promise, and the one over SQLite (Redis: `redis_online_store`).

What is written into them and when is `store`'s work; reading for the service is `online`'s.
"""

import itertools
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from feast import FeatureView, ValueType
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values
from pydantic import Field

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable
from hindcast.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEYS_PER_QUERY = 10_000  # SQLite takes 32,766 parameters
_KEY_KINDS: dict[ValueType, tuple[type, str]] = {
    ValueType.STRING: (str, "string_val"),
    ValueType.INT32: (int, "int32_val"),
    ValueType.INT64: (int, "int64_val"),
}

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]  # with its event and its created timestamp


class HeldRow(NamedTuple):
    """What a store holds of one key of a view; both timestamps are exact to the microsecond and in UTC."""

    event_timestamp: datetime
    created: datetime | None
    values: dict[str, Value]

    @property
    def known_at(self) -> datetime:
        """From when on it may be used."""
        return max(self.event_timestamp, self.created or self.event_timestamp)


@dataclass(frozen=True)
class Held:
    """What a store held at one moment.

    Attributes:
        rows: For each view that was asked for, per key its row or None.
        known_until: Until when what was known is in the store; None where nobody said.
        snapshot: The lake's, which the store was last filled from; None where nobody said.
    """

    rows: list[list[HeldRow | None]]
    known_until: datetime | None
    snapshot: int | None


class NewestOnlineStore(OnlineStore):
    """Holds per key the row of the newest event timestamp (of several, the one created last) in any order of writing.

    A row without a created timestamp counts as created at its event.
    """

    @abstractmethod
    def fill(
        self,
        config: RepoConfig,
        rows: Sequence[tuple[FeatureView, Sequence[Row]]],
        known_until: datetime,
        snapshot: int,
        afresh: bool,
    ) -> None:
        """Brings rows of all views in, at once or not at all: a reader sees the state before or the one after.

        Args:
            config: Of the repository.
            rows: By view; rows that are older than what is held change nothing.
            known_until: Until when what was known is in the store from now on, unless it was later before.
            snapshot: Of the lake that the rows were read from.
            afresh: Whether all that is held of the views, and how far it went, is forgotten first.

        Raises:
            HindcastError: The store can't be reached or written.
        """

    @abstractmethod
    def read_views(
        self, config: RepoConfig, asked: Sequence[tuple[FeatureView, Sequence[EntityKey], Sequence[str]]]
    ) -> Held:
        """Rows by view, keys and features, all of one state of the store.

        Raises:
            HindcastError: The store can't be reached, or has never been filled.
        """

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """As Feast asks: per key the event timestamp of its row and its features, or (None, None)."""
        names = [field.name for field in table.features] if requested_features is None else requested_features
        found = self.read_views(config, [(table, entity_keys, names)]).rows[0]
        return [(row.event_timestamp, row.values) if row else (None, None) for row in found]


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """The section `online_store` of `feature_store.yaml`."""

    type: Any = "hindcast.features.online_store.NewestSqliteOnlineStore"
    path: str = Field(default_factory=lambda: str(Settings.from_environment().online_store))
    """Where left out, the home's."""


class NewestSqliteOnlineStore(NewestOnlineStore, SqliteOnlineStore):
    """Feast's SQLite store, mended. Its readers never wait for a writer.

    Tables are Feast's. Their instants are microseconds since 1970 (UTC): Feast's own are whole seconds of the
    machine's time zone, an hour off where its clock is put forward.
    """

    def fill(
        self,
        config: RepoConfig,
        rows: Sequence[tuple[FeatureView, Sequence[Row]]],
        known_until: datetime,
        snapshot: int,
        afresh: bool,
    ) -> None:
        """See `NewestOnlineStore.fill`: one transaction."""
        if afresh:  # whoever deletes the file deletes the tables that were made when the views were registered
            self.update(config, [], [view for view, _ in rows], [], [], partial=True)
        with self._transaction(config, "BEGIN IMMEDIATE") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS filled (known_until INTEGER, snapshot INTEGER)")
            if afresh:
                connection.execute("DELETE FROM filled")
            for view, new in rows:
                if afresh:
                    connection.execute(f"DELETE FROM {_table(config, view)}")
                _write(connection, config, view, new)
            before = connection.execute("SELECT max(known_until) FROM filled").fetchall()[0][0]
            connection.execute("DELETE FROM filled")
            latest = max(_microseconds(known_until), before or 0)
            connection.execute("INSERT INTO filled VALUES (?, ?)", [latest, snapshot])

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Feast's own way in: writes rows, except where the store holds something newer."""
        with self._transaction(config, "BEGIN IMMEDIATE") as connection:
            _write(connection, config, table, data)
        if progress:
            progress(len(data))

    def read_views(
        self, config: RepoConfig, asked: Sequence[tuple[FeatureView, Sequence[EntityKey], Sequence[str]]]
    ) -> Held:
        """See `NewestOnlineStore.read_views`: one transaction, one query per view."""
        with self._transaction(config, "BEGIN") as connection:
            rows = [_rows(connection, config, *each) for each in asked]
            try:
                filled = connection.execute("SELECT known_until, snapshot FROM filled").fetchall()
            except sqlite3.OperationalError:  # no such table: only Feast's own way in was used
                filled = []
        known_until, snapshot = filled[0] if filled else (None, None)
        return Held(rows, None if known_until is None else _instant(known_until), snapshot)

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if not self._conn:
            Path(self._get_db_path(config)).parent.mkdir(parents=True, exist_ok=True)
            connection: sqlite3.Connection = super()._get_conn(config)
            connection.isolation_level = None  # transactions are begun and ended here alone
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("PRAGMA journal_mode = WAL")  # readers don't wait for a writer
            connection.execute("PRAGMA synchronous = NORMAL")
        assert self._conn is not None
        return self._conn

    @contextmanager
    def _transaction(self, config: RepoConfig, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._get_conn(config)
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            _, missing, table = str(error).partition("no such table: ")
            if missing:
                view = table.removeprefix(f"{config.project}_")
                raise HindcastError(
                    f"The online store holds nothing of {view} yet: `hindcast run` fills it."
                ) from error
            raise HindcastError(f"The online store {self._get_db_path(config)} can't be used: {error}.") from error


def entity_keys(view: FeatureView, rows: Sequence[Sequence[Any]]) -> list[EntityKey]:
    """Feast's keys of a view, from rows of join-key values in the order of its entity columns.

    Raises:
        HindcastError: A value isn't of its key's type.
    """
    if not view.entity_columns:  # features of the world as a whole
        return [EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])] * len(rows)
    names = [field.name for field in view.entity_columns]
    kinds = [_KEY_KINDS.get(field.dtype.to_value_type()) for field in view.entity_columns]
    if None in kinds:
        raise HindcastError(f"Feature view {view.name}: join keys must be text or whole numbers.")
    keys = []
    for row in rows:
        values = []
        for name, (kind, slot), value in zip(names, filter(None, kinds), row, strict=True):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise HindcastError(f"Join key {name} must be of type {kind.__name__}, not {value!r}.")
            values.append(Value(**{slot: value}))  # type: ignore[arg-type]
        keys.append(EntityKey(join_keys=names, entity_values=values))
    return keys


def online_rows(view: FeatureView, table: FeatureTable, found: pa.Table) -> list[Row]:
    """Rows of a feature table as an online store takes them; none of their keys may be null."""
    columns = {column: found[column].to_pylist() for column in found.column_names}
    keys = entity_keys(view, list(zip(*(columns[key] for key in table.keys), strict=True)) or [()] * found.num_rows)
    types = {field.name: field.dtype.to_value_type() for field in view.features}
    names = list(table.features.values())
    values = [python_values_to_proto_values(columns[column], types[name]) for column, name in table.features.items()]
    created = columns[table.created] if table.created else [None] * found.num_rows
    rows = zip(*values, strict=True)
    return [
        (key, dict(zip(names, row, strict=True)), at, since)
        for key, row, at, since in zip(keys, rows, columns[table.timestamp], created, strict=True)
    ]


def serialized(config: RepoConfig, key: EntityKey) -> bytes:
    """A key as it is looked up."""
    return serialize_entity_key(key, entity_key_serialization_version=config.entity_key_serialization_version)


def can_be_asked_for(row: Row) -> bool:
    """Whether no part of its key is null."""
    return all(value.WhichOneof("val") is not None for value in row[0].entity_values)


def _write(connection: sqlite3.Connection, config: RepoConfig, view: FeatureView, rows: Sequence[Row]) -> None:
    cells = itertools.chain.from_iterable(_cells(config, row) for row in rows if can_be_asked_for(row))
    connection.executemany(
        f"INSERT INTO {_table(config, view)} AS held (entity_key, feature_name, value, value_text, event_ts, "
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
    view: FeatureView,
    entity_keys: Sequence[EntityKey],
    features: Sequence[str],
) -> list[HeldRow | None]:
    keys = [serialized(config, key) for key in entity_keys]
    found: dict[bytes, tuple[tuple[int, int], HeldRow]] = {}
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        chunk = keys[start : start + _KEYS_PER_QUERY]
        for key, feature, value, event, created in connection.execute(
            # The casts hide the columns' type, which Feast reads as seconds.
            "SELECT entity_key, feature_name, value, CAST(event_ts AS INTEGER), CAST(created_ts AS INTEGER) "
            f"FROM {_table(config, view)} WHERE entity_key IN ({', '.join('?' * len(chunk))})",
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


def _table(config: RepoConfig, view: FeatureView) -> str:
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return '"' + name.replace('"', '""') + '"'


def _microseconds(instant: datetime) -> int:
    """Since 1970; an instant without a zone is UTC."""
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
