"""Feast's configuration and registry of one home, read only: what a feature service consists of. Reads no features."""

import os
import re
from typing import Any

import yaml
from google.protobuf.message import DecodeError
from pydantic import ValidationError

from hindcast.errors import HindcastError
from hindcast.features.feast_imports import (
    FeastError,
    FeatureService,
    FeatureStore,
    FeatureView,
    OnDemandFeatureView,
    RepoConfig,
    _get_feature_views_to_use,
    get_online_store_from_config,
)
from hindcast.features.online_store import NewestOnlineStore
from hindcast.features.sqlite_online_store import NewestSqliteOnlineStore
from hindcast.settings import Settings


def feature_config(settings: Settings) -> dict[str, Any]:
    """The content of the feature repository's `feature_store.yaml`, for this home whatever the environment says.

    Raises:
        HindcastError: The file is missing, isn't YAML or names a variable that there isn't.
    """
    path = settings.feature_repo / "feature_store.yaml"
    if not path.exists():
        raise HindcastError(f"No Feast configuration {path}.")

    def put_in(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise HindcastError(f"{path}: the environment has no variable {match[1]}.")
        return os.environ[match[1]]

    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    try:
        content = yaml.safe_load(re.sub(r"\$\{(\w+)\}", put_in, "\n".join(lines)))
    except yaml.YAMLError as error:
        raise HindcastError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise HindcastError(f"{path} must be a mapping of keys to values.")
    content["registry"] = str(settings.feast_registry)
    content["offline_store"] = (content.get("offline_store") or {}) | {"home": str(settings.home)}
    online_store = content.get("online_store") or {}
    if online_store.get("type") == f"{NewestSqliteOnlineStore.__module__}.{NewestSqliteOnlineStore.__name__}":
        online_store.setdefault("path", str(settings.online_store))
    return content


def open_store(settings: Settings, **changes: Any) -> FeatureStore:
    """Feast over this home.

    Args:
        settings: Says where registry, lake and online store lie.
        changes: To the configuration's sections, as in `registry="…"`.

    Raises:
        HindcastError: The configuration isn't one of Feast's, or nothing has been registered yet.
    """
    content = feature_config(settings)
    sections = {
        section: content[section] | change if isinstance(change, dict) else change
        for section, change in changes.items()
    }
    path = settings.feature_repo / "feature_store.yaml"
    try:
        config = RepoConfig(**content | sections)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise HindcastError(f"{path}: {faults}.") from error
    except FeastError as error:
        raise HindcastError(f"{path}: {error}") from error
    config.repo_path = settings.feature_repo
    if "registry" not in changes and not settings.feast_registry.exists():
        raise HindcastError(f"No Feast registry {settings.feast_registry} yet: `hindcast run` makes it.")
    store = FeatureStore(config=config)
    try:
        store.registry  # noqa: B018 - reads it
    except (DecodeError, OSError) as error:
        raise HindcastError(
            f"The Feast registry {settings.feast_registry} can't be read ({error}): delete it; `hindcast run` makes it."
        ) from error
    return store


def open_online_store(config: RepoConfig) -> NewestOnlineStore:
    """A new connection to the online store that the configuration names; not for several threads at once.

    Raises:
        HindcastError: It is a store that lets older rows overwrite newer.
    """
    store = get_online_store_from_config(config.online_store)
    if not isinstance(store, NewestOnlineStore):
        raise HindcastError(
            f"An online store of type {config.online_store.type} lets older rows overwrite newer: let it be "
            "hindcast.features.sqlite_online_store.NewestSqliteOnlineStore or "
            "hindcast.features.redis_online_store.NewestRedisOnlineStore in feature_store.yaml."
        )
    return store


def find_service(store: FeatureStore, name: str) -> FeatureService:
    """A feature service by name.

    Raises:
        HindcastError: There is none of that name.
    """
    services = {service.name: service for service in store.list_feature_services()}
    if name not in services:
        raise HindcastError(f"No feature service {name}; there are: {', '.join(sorted(services)) or 'none'}.")
    return services[name]


def service_features(service: FeatureService) -> list[tuple[str, str]]:
    """(view, feature) in the service's order, which is that of a model's columns.

    Raises:
        HindcastError: Two views have a feature of one name.
    """
    features = [
        (view.name_to_use(), field.name) for view in service.feature_view_projections for field in view.features
    ]
    names = [name for _, name in features]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise HindcastError(f"Feature service {service.name} has several features named {', '.join(doubled)}.")
    return features


def service_views(store: FeatureStore, service: FeatureService) -> tuple[list[FeatureView], list[OnDemandFeatureView]]:
    """The views to read (each with its projection, inputs of on-demand views included) and the on-demand views."""
    return _get_feature_views_to_use(store.registry, store.project, service)  # what Feast itself asks


def join_keys(views: list[FeatureView]) -> list[str]:
    """The columns by which the views are looked up, in the views' order."""
    keys = [view.projection.join_key_map.get(field.name, field.name) for view in views for field in view.entity_columns]
    return list(dict.fromkeys(keys))
