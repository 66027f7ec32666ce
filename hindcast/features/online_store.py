"""Feast's SQLite online store, mended: newer rows stay, instants are exact, and readers never wait.

What is written into it and when is `store`'s work; reading for the service is `online`'s.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast import FeatureView, ValueType
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_KEYS_PER_QUERY = 10_000  # SQLite takes 32,766 parameters
_KEY_KINDS: dict[ValueType, tuple[type, str]] = {
    ValueType.STRING: (str, "string_val"),
    ValueType.INT32: (int, "int32_val"),
    ValueType.INT64: (int, "int64_val"),
}

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """The section `online_store` of `feature_store.yaml`."""

    type: Any = "hindcast.features.online_store.NewestSqliteOnlineStore"


class NewestSqliteOnlineStore(SqliteOnlineStore):
    """Per key the row known last, whatever the order of writing.

    Tables are Feast's. Their instants are microseconds since 1970 (UTC): Feast's own are whole seconds of the
    machine's time zone, an hour off where its clock is put forward.
    """

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
    def transaction(self, config: RepoConfig, write: bool = False) -> Iterator[None]:
        """All that is read inside is of one state of the store; all that is written appears at once, or not at all."""
        connection = self._get_conn(config)
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Writes rows, except where the store knows something newer for a key (by event, then created timestamp)."""
        statement = (
            f"INSERT INTO {_table(config, table)} AS held (entity_key, feature_name, value, value_text, event_ts, "
            "created_ts) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
            "value = excluded.value, value_text = excluded.value_text, event_ts = excluded.event_ts, "
            "created_ts = excluded.created_ts WHERE excluded.event_ts > held.event_ts "
            "OR (excluded.event_ts = held.event_ts AND ifnull(excluded.created_ts, 0) >= ifnull(held.created_ts, 0))"
        )
        cells = itertools.chain.from_iterable(_cells(config, row) for row in data)
        with self.transaction(config, write=True):
            self._get_conn(config).executemany(statement, cells)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Per key the instant of its row and its features, or (None, None)."""
        keys = [_key(config, key) for key in entity_keys]
        found: dict[bytes, tuple[datetime, dict[str, Value]]] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            chunk = keys[start : start + _KEYS_PER_QUERY]
            for key, feature, value, event_ts in self._get_conn(config).execute(
                # The cast hides the column's type, which Feast reads as seconds.
                f"SELECT entity_key, feature_name, value, CAST(event_ts AS INTEGER) FROM {_table(config, table)} "
                f"WHERE entity_key IN ({', '.join('?' * len(chunk))})",
                chunk,
            ):
                if key not in found:
                    found[key] = (_EPOCH + timedelta(microseconds=event_ts), {})
                if requested_features is None or feature in requested_features:
                    found[key][1][feature] = Value.FromString(value)
        return [found.get(key, (None, None)) for key in keys]

    def mark_known_until(self, config: RepoConfig, instant: datetime, snapshot: int) -> None:
        """Notes that the store holds what was known until this instant (never less than before), and from where.

        Args:
            config: Of the repository.
            instant: Until when what was known has been written.
            snapshot: Of the lake that it was read from.
        """
        connection = self._get_conn(config)
        connection.execute("CREATE TABLE IF NOT EXISTS filled (known_until INTEGER, snapshot INTEGER)")
        found = connection.execute("SELECT max(known_until) FROM filled").fetchall()[0][0]
        connection.execute("DELETE FROM filled")
        connection.execute("INSERT INTO filled VALUES (?, ?)", [max(_microseconds(instant), found or 0), snapshot])

    def known_until(self, config: RepoConfig) -> tuple[datetime | None, int | None]:
        """Until when what was known is in the store, and the lake's snapshot it was last filled from.

        None and None before it was first filled.
        """
        try:
            rows = self._get_conn(config).execute("SELECT known_until, snapshot FROM filled").fetchall()
        except sqlite3.OperationalError:  # no such table yet
            return None, None
        return _EPOCH + timedelta(microseconds=rows[0][0]), rows[0][1]

    def clear(self, config: RepoConfig, tables: Sequence[FeatureView]) -> None:
        """Takes out all that is known of the views."""
        for table in tables:
            self._get_conn(config).execute(f"DELETE FROM {_table(config, table)}")
        self._get_conn(config).execute("DROP TABLE IF EXISTS filled")


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


def _cells(config: RepoConfig, row: Row) -> Iterator[tuple[Any, ...]]:
    entity_key, values, event_ts, created_ts = row
    if any(value.WhichOneof("val") is None for value in entity_key.entity_values):
        return  # nobody can ask for it
    key, event = _key(config, entity_key), _microseconds(event_ts)
    created = None if created_ts is None else _microseconds(created_ts)
    for feature, value in values.items():
        yield key, feature, value.SerializeToString(), extract_text_and_num(value, False)[0], event, created


def _key(config: RepoConfig, key: EntityKey) -> bytes:
    return serialize_entity_key(key, entity_key_serialization_version=config.entity_key_serialization_version)


def _table(config: RepoConfig, view: FeatureView) -> str:
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return '"' + name.replace('"', '""') + '"'


def _microseconds(instant: datetime) -> int:
    """Since 1970; an instant without a zone is UTC."""
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
