"""What every online store promises: it keeps the newest row per key, apart for each definition of a feature view.

Over SQLite: `sqlite_online_store`; over Redis: `redis_online_store`. What is written into them and when is
`materialise`'s work; reading for the service is `online`'s.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable
from hindcast.features.feast_imports import (
    DUMMY_ENTITY_ID,
    DUMMY_ENTITY_VAL,
    Entity,
    EntityKey,
    FeatureView,
    OnlineStore,
    RepoConfig,
    Value,
    ValueType,
    python_values_to_proto_values,
    serialize_entity_key,
)
from hindcast.features.lake_source import feature_table
from hindcast.fingerprint import fingerprint

_KEY_KINDS: dict[ValueType, tuple[type, str]] = {
    ValueType.STRING: (str, "string_val"),
    ValueType.INT32: (int, "int32_val"),
    ValueType.INT64: (int, "int64_val"),
}

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]  # with its event and its created timestamp
State = tuple[datetime, int]  # until when what was known is there, and the lake's snapshot that it was read from


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
        known_until: Until when what was known is in the store, of all these views; None where nobody said.
        snapshot: The oldest of the lake's that these views were last filled from; None where nobody said.
    """

    rows: list[list[HeldRow | None]]
    known_until: datetime | None
    snapshot: int | None


class Filling(NamedTuple):
    """What is brought into the store of one view.

    Attributes:
        view: As it is defined by whoever will read it.
        rows: Those that are older than what is held change nothing.
        afresh: Whether all that is held of the view, and how far it went, is forgotten first.
    """

    view: FeatureView
    rows: Sequence[Row]
    afresh: bool


class NewestOnlineStore(OnlineStore):
    """Holds per key the row of the newest event timestamp (of several, the one created last) in any order of writing.

    A row without a created timestamp counts as created at its event. Rows of a view lie under a name of their own for
    each definition of it (`online_name`): a model reads those of the definition that it was trained on.
    """

    @abstractmethod
    def fill(
        self,
        config: RepoConfig,
        fillings: Sequence[Filling],
        known_until: datetime,
        snapshot: int,
    ) -> None:
        """Brings rows of all views in, at once or not at all: a reader sees the state before or the one after.

        Args:
            config: Of the repository.
            fillings: By view.
            known_until: Until when what was known is in the store from now on, unless it was later before.
            snapshot: Of the lake that the rows were read from.

        Raises:
            HindcastError: The store can't be reached or written.
        """

    @abstractmethod
    def filled(self, config: RepoConfig) -> dict[str, datetime]:
        """Until when what was known is in the store, by `online_name`.

        Raises:
            HindcastError: The store can't be reached.
        """

    @abstractmethod
    def keep_only(self, config: RepoConfig, names: Collection[str]) -> None:
        """Removes what the store holds of the project's views under other names (`online_name`) than these.

        Raises:
            HindcastError: The store can't be reached or written.
        """

    @abstractmethod
    def read_views(self, config: RepoConfig, asked: Sequence[tuple[str, Sequence[EntityKey], Sequence[str]]]) -> Held:
        """Rows by view (its `online_name`), keys and features, all of one state of the store.

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
        found = self.read_views(config, [(online_name(config, table), entity_keys, names)]).rows[0]
        return [(row.event_timestamp, row.values) if row else (None, None) for row in found]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Nothing: Feast asks when a registry changes, but a model may go on reading a view as it was before.

        What a view needs is made when it is first filled, and removed by `keep_only`.
        """

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Removes all that is the project's."""
        self.keep_only(config, [])


def online_name(config: RepoConfig, view: FeatureView) -> str:
    """Under which name a store holds a view's rows: another for each definition of the view.

    Equal as long as the same features (and types) are taken from the same columns by the same keys, timestamps and
    TTL; descriptions, tags and owners have no part in it.

    Raises:
        HindcastError: The view's source is no table of the lake.
    """
    table = feature_table(view, sorted(field.name for field in view.features))
    # Feast gives what has no key one of its own making, at some times.
    columns = [column for column in table.keys if column != DUMMY_ENTITY_ID]
    keys = [field for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]
    kinds = sorted((field.name, field.dtype.to_value_type().name) for field in [*keys, *view.features])
    named = [field.name for field in keys]
    values = [table.table, columns, named, table.timestamp, table.created, table.ttl, table.features, kinds]
    return f"{config.project}_{view.name}_{fingerprint(values=values)}"


def common_state(
    config: RepoConfig, names: Sequence[str], states: Mapping[str, State | None]
) -> tuple[datetime | None, int | None]:
    """The state of several views together: the least of each.

    Args:
        config: Of the repository.
        names: Of the views, as `online_name` gives them.
        states: Of what the store holds; None of a view that came in by Feast's own way, which doesn't say.

    Returns:
        As `Held` has them. (None, None) where Feast's own way in was used; views that didn't come in are empty then.

    Raises:
        HindcastError: A view isn't there.
    """
    known = [state for name in names if (state := states.get(name))]
    if len(known) == len(names) > 0:
        return min(until for until, _ in known), min(snapshot for _, snapshot in known)
    missing = [name for name in names if name not in states]
    if missing and len(known) + len(missing) == len(names):
        raise HindcastError(
            f"The online store holds nothing of {view_of(config, missing[0])} as the model takes it: "
            "`hindcast run` fills it."
        )
    return None, None


def view_of(config: RepoConfig, name: str) -> str:
    """The view whose rows lie under an `online_name`."""
    return name.removeprefix(f"{config.project}_").rpartition("_")[0]


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
