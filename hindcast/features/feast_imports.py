"""All that Hindcast takes from Feast, imported in a fraction of the usual time. Other modules import it from here.

Feast decorates its classes with `typeguard.typechecked`, which reads, rewrites and compiles their source again: three
quarters of the seconds that importing Feast takes. Nothing here needs those checks, so the decorator does nothing while
Feast is imported.
"""
# ruff: noqa: F401

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typeguard


def _unchanged(target: Any = None, **options: Any) -> Any:
    """Stands in for `typeguard.typechecked`, with and without options."""
    return _unchanged if target is None else target


@contextmanager
def _without_checks() -> Iterator[None]:
    original = typeguard.typechecked
    typeguard.typechecked = _unchanged
    try:
        yield
    finally:
        typeguard.typechecked = original


with _without_checks():
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        OnDemandFeatureView,
        RepoConfig,
        RequestSource,
        ValueType,
        types,
    )
    from feast.data_source import DataSource
    from feast.errors import FeastError
    from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
    from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key
    from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
    from feast.infra.online_stores.helpers import extract_text_and_num, get_online_store_from_config
    from feast.infra.online_stores.online_store import OnlineStore
    from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisOnlineStoreConfig, RedisType
    from feast.infra.registry.base_registry import BaseRegistry
    from feast.infra.registry.file import FileRegistryStore
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
    from feast.protos.feast.core.SavedDataset_pb2 import SavedDatasetStorage as SavedDatasetStorageProto
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.repo_config import FeastConfigBaseModel, RegistryConfig
    from feast.saved_dataset import SavedDatasetStorage
    from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
    from feast.types import from_feast_to_pyarrow_type
    from feast.utils import _get_feature_views_to_use, compute_non_entity_date_range
