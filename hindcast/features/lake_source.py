"""Tables of the lake as Feast knows them: the source of a feature view, and the place of a saved dataset."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable
from hindcast.features.feast_imports import (
    DataSource,
    DataSourceProto,
    FeatureView,
    RepoConfig,
    SavedDatasetStorage,
    SavedDatasetStorageProto,
    ValueType,
)
from hindcast.settings import Settings
from hindcast.sql import table_identifier

if TYPE_CHECKING:
    from hindcast.lake import Lake

_VALUE_TYPES = {
    "BOOLEAN": ValueType.BOOL,
    "TINYINT": ValueType.INT32,
    "SMALLINT": ValueType.INT32,
    "INTEGER": ValueType.INT32,
    "UTINYINT": ValueType.INT32,
    "USMALLINT": ValueType.INT32,
    "BIGINT": ValueType.INT64,
    "UINTEGER": ValueType.INT64,
    "FLOAT": ValueType.FLOAT,
    "DOUBLE": ValueType.DOUBLE,
    "VARCHAR": ValueType.STRING,
    "BLOB": ValueType.BYTES,
    "DATE": ValueType.UNIX_TIMESTAMP,
    "TIMESTAMP": ValueType.UNIX_TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": ValueType.UNIX_TIMESTAMP,
}


def value_type(column_type: str) -> ValueType:
    """Feast's type of a column type of the lake.

    Raises:
        HindcastError: Feast has no such type.
    """
    if column_type not in _VALUE_TYPES:
        raise HindcastError(f"Feast has no type {column_type}; cast the column to one of {', '.join(_VALUE_TYPES)}.")
    return _VALUE_TYPES[column_type]


class LakeSource(DataSource):
    """A table of the lake as the source of a feature view.

    Args:
        name: Unique in the project.
        table: `schema.table`.
        timestamp_field: Column of the instant (UTC where it has no zone) that a row tells of; without
            `created_timestamp_column`, of when it became known, and unique per key.
        created_timestamp_column: Column of the instant at which a row came in: it isn't used before.
        more: As of Feast's data sources: `field_mapping`, `description`, `tags`, `owner`.
    """

    def __init__(
        self,
        *,
        name: str,
        table: str,
        timestamp_field: str = "event_timestamp",
        created_timestamp_column: str | None = None,
        **more: Any,
    ) -> None:
        if table.count(".") != 1:
            raise HindcastError(f"Source {name}: the table must be written schema.table, got {table!r}.")
        self.table = table
        super().__init__(
            name=name, timestamp_field=timestamp_field, created_timestamp_column=created_timestamp_column, **more
        )

    def __hash__(self) -> int:
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LakeSource) and self.table == other.table and super().__eq__(other)

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> "LakeSource":
        return LakeSource(
            name=data_source.name,
            table=json.loads(data_source.custom_options.configuration)["table"],
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column or None,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> DataSourceProto:
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{LakeSource.__module__}.{LakeSource.__qualname__}",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=_table_option(self.table)),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def source_type(self) -> DataSourceProto.SourceType.ValueType:
        return DataSourceProto.CUSTOM_SOURCE

    def validate(self, config: RepoConfig) -> None:
        """Raises HindcastError where the lake lacks the table or a column of instants."""
        columns = dict(self.get_table_column_names_and_types(config))
        for column in filter(None, [self.timestamp_field, self.created_timestamp_column]):
            if not columns.get(column, "").startswith(("TIMESTAMP", "DATE")):
                raise HindcastError(f"Source {self.name}: {self.table} has no column {column} of type TIMESTAMP.")

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        with lake_of(config).reading(config.offline_store.snapshot) as connection:
            schema, table = self.table.split(".")
            columns = connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() "
                "WHERE database_name = 'lake' AND schema_name = ? AND table_name = ? ORDER BY column_index",
                [schema, table],
            ).fetchall()
        if not columns:
            raise HindcastError(f"Source {self.name}: the lake has no table {self.table}; `hindcast run` makes it.")
        return columns

    def get_table_query_string(self) -> str:
        return table_identifier(self.table)

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        return value_type


class SavedDatasetLakeStorage(SavedDatasetStorage):
    """A table of the lake as the place of a saved dataset."""

    _proto_attr_name = "custom_storage"

    def __init__(self, table: str) -> None:
        self.table = table

    @staticmethod
    def from_proto(storage_proto: SavedDatasetStorageProto) -> "SavedDatasetLakeStorage":
        return SavedDatasetLakeStorage(json.loads(storage_proto.custom_storage.configuration)["table"])

    def to_proto(self) -> SavedDatasetStorageProto:
        options = DataSourceProto.CustomSourceOptions(configuration=_table_option(self.table))
        return self._custom_storage_proto(options)

    def to_data_source(self) -> LakeSource:
        return LakeSource(name=self.table, table=self.table)


def lake_of(config: RepoConfig) -> "Lake":
    """The lake that a Feast configuration names."""
    from hindcast.lake import Lake  # the service needs sources, and no lake

    store, settings = config.offline_store, Settings.from_environment()
    return Lake(Settings(settings.root, Path(store.home), settings.problem), store.memory_limit)


def feature_table(view: FeatureView, features: Sequence[str]) -> FeatureTable:
    """A feature view over the lake as the SQL needs it; the names that its source's field mapping gives are undone.

    Raises:
        HindcastError: The view's source is no table of the lake.
    """
    source = view.batch_source
    if not isinstance(source, LakeSource):
        raise HindcastError(f"Feature view {view.name}: its source must be a LakeSource.")
    columns = {mapped: column for column, mapped in source.field_mapping.items()}
    aliases = view.projection.join_key_map
    keys = [field.name for field in view.entity_columns]
    created = source.created_timestamp_column
    return FeatureTable(
        table=source.table,
        keys={columns.get(key, key): aliases.get(key, key) for key in keys},
        timestamp=columns.get(source.timestamp_field, source.timestamp_field),
        created=columns.get(created, created) or None,
        ttl=view.ttl or None,
        features={columns.get(feature, feature): feature for feature in features},
    )


def _table_option(table: str) -> bytes:
    return json.dumps({"table": table}).encode()
