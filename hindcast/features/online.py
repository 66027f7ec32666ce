"""Features for the service: read by entity key, with the same rule of time as in training. Writes nothing.

A row is used if it was known at the request's instant and isn't older then than its view's TTL (edge included), as the
as-of join does; Feast's own online reads know no TTL. On-demand features are computed from what passed that rule.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feast import FeatureView
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type

from hindcast.errors import HindcastError
from hindcast.features import lake_source  # noqa: F401 - the registry names its classes
from hindcast.features.feature_service import find_service, join_keys, open_store, service_features, service_views
from hindcast.features.on_demand import compute, request_fields
from hindcast.features.online_store import NewestSqliteOnlineStore, entity_keys
from hindcast.settings import Settings

_SCALARS = {"int32_val", "int64_val", "double_val", "float_val", "string_val", "bool_val", "bytes_val"}


@dataclass(frozen=True)
class FeatureRows:
    """What was known of some entities, each at its instant.

    Attributes:
        values: Feature -> one value per row (None where nothing usable is known), in the service's order.
        known_at: View -> per row the instant (UTC) at which what was used became known, or None.
        stale: Per row the views without a usable row: no such key, too old, or known only later.
        as_of: Until when what was known was in the store as it was read; None where the store doesn't say.
        snapshot: The lake's, which the store was last filled from; None where the store doesn't say.
    """

    values: dict[str, list[Any]]
    known_at: dict[str, list[datetime | None]]
    stale: list[list[str]]
    as_of: datetime | None
    snapshot: int | None


class FeatureReader:
    """Reads the features of one service. Safe to share between threads: each has its own connection.

    Args:
        settings: Of the home whose registry and online store are read.
        service: Name of the feature service.

    Attributes:
        names: The features in the service's order.
        join_keys: What a row must hold.
        request_fields: What a row must hold for on-demand features.

    Raises:
        HindcastError: Nothing is registered yet, or there is no such service.
    """

    def __init__(self, settings: Settings, service: str) -> None:
        store = open_store(settings, offline_store=None)
        found = find_service(store, service)
        self._config = store.config
        self._features = service_features(found)
        self._views, self._on_demand = service_views(store, found)
        self._local = threading.local()
        self.names = [name for _, name in self._features]
        self.join_keys = join_keys(self._views)
        self.request_fields = [field for view in self._on_demand for field in request_fields(view)]

    def read(self, rows: Sequence[Mapping[str, Any]], at: Sequence[datetime]) -> FeatureRows:
        """Features of each row's entities as known at its instant.

        Args:
            rows: Join keys (None where there is none, as for an entity not yet known) and request fields.
            at: Instants, with time zone, one per row.

        Raises:
            HindcastError: A row lacks a join key or request field or holds one of another type, an instant has no
                time zone, or the store hasn't been filled yet.
        """
        self._check(rows, at)
        store = self._store()
        ours = store if isinstance(store, NewestSqliteOnlineStore) else None
        values: dict[tuple[str, str], list[Any]] = {}
        known_at: dict[str, list[datetime | None]] = {}
        with ours.transaction(self._config) if ours else nullcontext():
            for view in self._views:
                known_at[view.projection.name_to_use()] = self._read_view(store, view, rows, at, values)
            as_of, snapshot = ours.known_until(self._config) if ours else (None, None)
        for computed in self._on_demand:
            request = {field: [row[field] for row in rows] for field in request_fields(computed)}
            for name, column in compute(computed, values, request).items():
                values[computed.projection.name_to_use(), name] = column
        stale = [[view for view, instants in known_at.items() if instants[row] is None] for row in range(len(rows))]
        ordered = {name: values[view, name] for view, name in self._features}
        return FeatureRows(ordered, known_at, stale, as_of, snapshot)

    def _read_view(
        self,
        store: OnlineStore,
        view: FeatureView,
        rows: Sequence[Mapping[str, Any]],
        at: Sequence[datetime],
        values: dict[tuple[str, str], list[Any]],
    ) -> list[datetime | None]:
        """Adds a view's columns to `values`; says per row when what it holds became known."""
        aliases = view.projection.join_key_map
        columns = [aliases.get(field.name, field.name) for field in view.entity_columns]
        keys = [tuple(row[column] for column in columns) for row in rows]
        asked = list(dict.fromkeys(key for key in keys if None not in key))
        features = [field.name for field in view.projection.features]
        found: dict[tuple[Any, ...], tuple[datetime | None, tuple[Any, ...]]] = dict.fromkeys(keys, (None, ()))
        if asked:
            keyed = entity_keys(view, asked)
            try:
                answers = store.online_read(self._config, view, keyed, features)
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                raise HindcastError(
                    f"The online store holds nothing of {view.name} yet: `hindcast run` fills it."
                ) from error
            for key, (instant, cells) in zip(asked, answers, strict=True):
                if instant is not None and cells is not None:
                    held = tuple(_plain(cells[name]) if name in cells else None for name in features)
                    found[key] = (instant if instant.tzinfo else instant.replace(tzinfo=UTC), held)
        nothing = (None,) * len(features)
        known_at: list[datetime | None] = []
        taken = []
        for key, now in zip(keys, at, strict=True):
            instant, held = found[key]
            usable = instant is not None and instant <= now and not (view.ttl and now - instant > view.ttl)
            known_at.append(instant if usable else None)
            taken.append(held if usable else nothing)
        name = view.projection.name_to_use()
        for position, feature in enumerate(features):
            values[name, feature] = [held[position] for held in taken]
        return known_at

    def _check(self, rows: Sequence[Mapping[str, Any]], at: Sequence[datetime]) -> None:
        for number, (row, instant) in enumerate(zip(rows, at, strict=True)):
            missing = [name for name in [*self.join_keys, *self.request_fields] if name not in row]
            if missing:
                raise HindcastError(f"Row {number} lacks {', '.join(missing)}; a key that there isn't is None.")
            if instant.tzinfo is None:
                raise HindcastError(
                    f"Row {number}: the instant {instant.isoformat()} has no time zone; write …Z for UTC."
                )

    def _store(self) -> OnlineStore:
        """This thread's store: a connection of SQLite's isn't for several threads."""
        if not hasattr(self._local, "store"):
            self._local.store = get_online_store_from_config(self._config.online_store)
        return self._local.store


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    return getattr(value, kind) if kind in _SCALARS else feast_value_type_to_python_type(value)
