"""Features for the service: read by entity key, with the same rule of time as in training. Writes nothing.

A row is used if it was known at the request's instant (neither its event nor when it came in is later) and its event
isn't older then than the view's TTL (edge included), as in the as-of join; Feast's own online reads know no TTL.
On-demand features are computed from what passed that rule.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hindcast.errors import HindcastError

# The registry and the configuration name the classes of the first two.
from hindcast.features import lake_source, redis_online_store  # noqa: F401
from hindcast.features.feast_imports import FeatureView, Value, feast_value_type_to_python_type
from hindcast.features.feature_service import (
    find_service,
    join_keys,
    open_online_store,
    open_store,
    service_features,
    service_views,
)
from hindcast.features.on_demand import compute, request_fields
from hindcast.features.online_store import HeldRow, NewestOnlineStore, entity_keys, online_name
from hindcast.settings import Settings

_SCALARS = {"int32_val", "int64_val", "double_val", "float_val", "string_val", "bool_val", "bytes_val"}


@dataclass(frozen=True)
class FeatureRows:
    """What was known of some entities, each at its instant.

    Attributes:
        values: Feature -> one value per row (None where nothing usable is known), in the service's order.
        known_at: View -> per row the instant (UTC) at which what was used became known, or None.
        stale: Per row the views without a usable row: no such key, too old, or known only later.
        unknown: Join keys (of several columns: with commas between) -> per row whether no view has a usable row for
            them.
        as_of: Until when what was known was in the store as it was read; None where the store doesn't say.
        snapshot: The lake's, which the store was last filled from; None where the store doesn't say.
    """

    values: dict[str, list[Any]]
    known_at: dict[str, list[datetime | None]]
    stale: list[list[str]]
    unknown: dict[str, list[bool]]
    as_of: datetime | None
    snapshot: int | None


class FeatureReader:
    """Reads the features of one service. Safe to share between threads: each has its own connection.

    Args:
        settings: Of the home whose registry and online store are read.
        service: Name of the feature service.
        registry: The one that defines it; None for the home's.

    Attributes:
        names: The features in the service's order.
        join_keys: What a row must hold.
        request_fields: What a row must hold for on-demand features.

    Raises:
        HindcastError: Nothing is registered yet, or there is no such service.
    """

    def __init__(self, settings: Settings, service: str, registry: Path | None = None) -> None:
        store = open_store(settings, offline_store=None, **({"registry": str(registry)} if registry else {}))
        found = find_service(store, service)
        self._config = store.config
        self._features = service_features(found)
        self._views, self._on_demand = service_views(store, found)
        self._held_as = [online_name(self._config, view) for view in self._views]
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
                time zone, or the store can't be reached or hasn't been filled yet.
        """
        self._check(rows, at)
        keys = [_keys(view, rows) for view in self._views]
        asked = [list(dict.fromkeys(key for key in each if None not in key)) for each in keys]
        held = self._store().read_views(
            self._config,
            [
                (name, entity_keys(view, each), [field.name for field in view.projection.features])
                for name, view, each in zip(self._held_as, self._views, asked, strict=True)
            ],
        )
        values: dict[tuple[str, str], list[Any]] = {}
        known_at: dict[str, list[datetime | None]] = {}
        for view, wanted, each, found in zip(self._views, keys, asked, held.rows, strict=True):
            taken = _take(view, wanted, dict(zip(each, found, strict=True)), at)
            name = view.projection.name_to_use()
            known_at[name] = [instant for instant, _ in taken]
            for position, field in enumerate(view.projection.features):
                values[name, field.name] = [cells[position] for _, cells in taken]
        for computed in self._on_demand:
            request = {field: [row[field] for row in rows] for field in request_fields(computed)}
            for name, column in compute(computed, values, request, at).items():
                values[computed.projection.name_to_use(), name] = column
        stale = [[view for view, instants in known_at.items() if instants[row] is None] for row in range(len(rows))]
        unknown: dict[str, list[bool]] = {}
        for view in self._views:
            key = ", ".join(join_keys([view]))
            none = [instant is None for instant in known_at[view.projection.name_to_use()]]
            unknown[key] = [both and new for both, new in zip(unknown.get(key, none), none, strict=True)]
        ordered = {name: values[view, name] for view, name in self._features}
        return FeatureRows(ordered, known_at, stale, unknown, held.known_until, held.snapshot)

    def _check(self, rows: Sequence[Mapping[str, Any]], at: Sequence[datetime]) -> None:
        for number, (row, instant) in enumerate(zip(rows, at, strict=True)):
            missing = [name for name in [*self.join_keys, *self.request_fields] if name not in row]
            if missing:
                raise HindcastError(f"Row {number} lacks {', '.join(missing)}; a key that there isn't is None.")
            if instant.tzinfo is None:
                raise HindcastError(
                    f"Row {number}: the instant {instant.isoformat()} has no time zone; write …Z for UTC."
                )

    def _store(self) -> NewestOnlineStore:
        """This thread's own."""
        if not hasattr(self._local, "store"):
            self._local.store = open_online_store(self._config)
        return self._local.store


def _keys(view: FeatureView, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    aliases = view.projection.join_key_map
    columns = [aliases.get(field.name, field.name) for field in view.entity_columns]
    return [tuple(row[column] for column in columns) for row in rows]


def _take(
    view: FeatureView,
    keys: Sequence[tuple[Any, ...]],
    held: Mapping[tuple[Any, ...], HeldRow | None],
    at: Sequence[datetime],
) -> list[tuple[datetime | None, Sequence[Any]]]:
    """Per key what may be used of its row at its instant: when that became known, and the view's features."""
    names = [field.name for field in view.projection.features]
    nothing = (None, [None] * len(names))
    cells = {key: [_plain(row.values.get(name)) for name in names] for key, row in held.items() if row}
    taken: list[tuple[datetime | None, Sequence[Any]]] = []
    for key, now in zip(keys, at, strict=True):
        row = held.get(key)
        fresh = row and not (view.ttl and now - row.event_timestamp > view.ttl)
        taken.append((row.known_at, cells[key]) if row and fresh and row.known_at <= now else nothing)
    return taken


def _plain(value: Value | None) -> Any:
    kind = value.WhichOneof("val") if value is not None else None
    if value is None or kind is None:
        return None
    return getattr(value, kind) if kind in _SCALARS else feast_value_type_to_python_type(value)
