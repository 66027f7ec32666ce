"""Feast's offline store over the lake: as-of joins over its tables, at the newest snapshot or a given one.

Named in `feature_store.yaml`. The join is in `asof`, a retrieval's steps are in `retrieval`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import pandas as pd
import pyarrow as pa
from pydantic import Field

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable, all_rows, latest_rows
from hindcast.features.feast_imports import (
    DUMMY_ENTITY_ID,
    DUMMY_ENTITY_VAL,
    BaseRegistry,
    DataSource,
    FeastConfigBaseModel,
    FeatureView,
    OfflineStore,
    OnDemandFeatureView,
    RepoConfig,
    RetrievalJob,
    RetrievalMetadata,
    SavedDatasetStorage,
    compute_non_entity_date_range,
)
from hindcast.features.lake_source import LakeSource, SavedDatasetLakeStorage, lake_of
from hindcast.features.retrieval import EntityRows, Retrieval, every_key, span, to_arrow
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sql import identifier, table_identifier

# Of the CPU of reading all columns of a table, a second thread takes half, and Polars' copy of texts a tenth.
_READ_FAST = {"threads": "1", "arrow_output_version": "1.4", "produce_arrow_string_view": "true"}


class LakeOfflineStoreConfig(FeastConfigBaseModel):
    """The section `offline_store` of `feature_store.yaml`."""

    type: Literal["hindcast.features.offline_store.LakeOfflineStore"] = (
        "hindcast.features.offline_store.LakeOfflineStore"
    )
    home: str = Field(default_factory=lambda: str(Settings.from_environment().home))
    """The home whose lake is read; where left out, that of the environment."""
    memory_limit: str = "4GB"
    """DuckDB's, which reads the tables; past it a query spills to the home's scratch folder."""
    snapshot: int | None = None
    """Reads the lake as it was then; the newest where left out."""


class LakeRetrievalJob(RetrievalJob):
    """A retrieval from the lake, run when its result is asked for."""

    def __init__(
        self,
        lake: Lake,
        retrieve: Callable[[], pa.Table],
        full_feature_names: bool = False,
        describe: Callable[[], RetrievalMetadata | None] = lambda: None,
    ) -> None:
        self._lake = lake
        self._retrieve = retrieve
        self._full_feature_names = full_feature_names
        self._describe = describe

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._retrieve()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return []  # computed in the retrieval: Feast would hand the whole table to each

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._describe()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Writes the result into a table of the lake.

        Raises:
            HindcastError: The table is there and may not be overwritten.
        """
        assert isinstance(storage, SavedDatasetLakeStorage)
        if not allow_overwrite and self._lake.exists(storage.table):
            raise HindcastError(f"The lake has a table {storage.table}; pass allow_overwrite=True to replace it.")
        result = self.to_arrow()
        with self._lake.writing() as connection:
            connection.register("result", result)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(storage.table.split('.')[0])}")
            connection.execute(f"CREATE OR REPLACE TABLE {table_identifier(storage.table)} AS FROM result")


class LakeOfflineStore(OfflineStore):
    """Features from the lake, each entity row with what was known at its instant."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: EntityRows | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        filter_by_created_timestamp: bool = True,
    ) -> LakeRetrievalJob:
        """Features of the rows known last at or before each entity row's instant and no older than the view's TTL.

        Args:
            config: Its section `offline_store` says which lake and snapshot.
            feature_views: Each with its projection (alias, join-key map).
            feature_refs: `view:feature`, on-demand features among them; the result has them in this order.
            entity_df: Join keys, the instant (`event_timestamp`, or the only timestamp; UTC where it has no zone)
                and whatever else: a Pandas or Polars frame, an Arrow table, or SQL over the lake. Order, duplicates
                and further columns are kept. None takes every key seen from start_date to end_date, at end_date.
            registry: Holds the on-demand views.
            project: Of the registry.
            full_feature_names: Whether names are `view__feature`.
            start_date: Only without entity_df; left out, the longest TTL before end_date.
            end_date: Only without entity_df.
            filter_by_created_timestamp: Makes no difference: a row that came in later is never used here.

        Raises:
            HindcastError: A join key or the instant is missing or of another type, or names collide.
        """
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        retrieval = Retrieval(feature_views, on_demand, feature_refs, full_feature_names)
        if entity_df is None:
            entity_df = every_key(feature_views, *compute_non_entity_date_range(feature_views, start_date, end_date))
        lake, snapshot = lake_of(config), config.offline_store.snapshot

        def retrieve() -> pa.Table:
            with lake.reading(snapshot, _READ_FAST) as connection:
                connection.execute("BEGIN")  # all views are read at one snapshot
                rows = to_arrow(connection, entity_df)
                return retrieval.run(connection, rows)

        def describe() -> RetrievalMetadata:
            with lake.reading(snapshot) as connection:
                rows = to_arrow(connection, entity_df)
            views = [view.projection.join_key_map.get(key, key) for view in feature_views for key in view.join_keys]
            return RetrievalMetadata(feature_refs, list(dict.fromkeys(views)), *span(rows))

        return LakeRetrievalJob(lake, retrieve, full_feature_names, describe)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> LakeRetrievalJob:
        """Per key the row known last from start_date to end_date, both included."""
        table = _table(data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)
        return _query(config, latest_rows(table, start_date, end_date), keyless=not join_key_columns)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> LakeRetrievalJob:
        """All rows known from start_date to end_date, both included."""
        table = _table(data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column)
        return _query(config, all_rows(table, start_date, end_date), keyless=not join_key_columns)


def _table(
    source: DataSource, keys: list[str], features: list[str], timestamp: str, created: str | None
) -> FeatureTable:
    assert isinstance(source, LakeSource)
    return FeatureTable(
        source.table,
        keys={key: key for key in keys},
        timestamp=timestamp,
        created=created or None,
        features={feature: feature for feature in features},
    )


def _query(config: RepoConfig, sql: str, keyless: bool) -> LakeRetrievalJob:
    lake = lake_of(config)

    def retrieve() -> pa.Table:
        with lake.reading(config.offline_store.snapshot) as connection:
            # As one piece: Feast's engine takes the first chunk for the whole.
            rows = connection.execute(sql).to_arrow_table().combine_chunks()
        if keyless:  # Feast gives what has no key one of its own making
            rows = rows.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * len(rows), pa.string()))
        return rows

    return LakeRetrievalJob(lake, retrieve)
