"""Feast for one home: register what the feature repository declares, retrieve history, fill the online store.

How rows are joined is `hindcast.features.retrieval`'s work; reading for the service is `hindcast.features.online`'s.
"""

import importlib.util
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hindcast.errors import HindcastError
from hindcast.files import exclusive
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings

# Feast takes seconds to import: only the functions that need it do.
if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView


def open_store(settings: Settings, snapshot: int | None = None) -> "FeatureStore":
    """Feast over this home.

    Args:
        settings: Says where registry, lake and online store lie.
        snapshot: Reads the lake as it was then.
    """
    from hindcast.features import feature_service

    return feature_service.open_store(settings, offline_store={"snapshot": snapshot})


def apply(settings: Settings) -> dict[str, int]:
    """Registers what the feature repository declares, and takes out what it no longer does.

    Returns:
        How many there are of each kind: entities, feature_views, on_demand_feature_views, feature_services; and the
        feature_views' features.

    Raises:
        HindcastError: A view's table, or a column that it declares, isn't in the lake or is of another type.
    """
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

    from hindcast.features import feature_service

    kinds = {
        "entities": Entity,
        "feature_views": FeatureView,
        "on_demand_feature_views": OnDemandFeatureView,
        "feature_services": FeatureService,
    }
    declared: list[Any] = [thing for thing in _load_repository(settings) if isinstance(thing, tuple(kinds.values()))]
    views = [thing for thing in declared if isinstance(thing, FeatureView)]
    _check_tables(settings, views)
    with exclusive(settings.locks / "feast-registry"), _replacing(settings.feast_registry) as registry:
        store = feature_service.open_store(settings, registry=str(registry))
        kept: set[tuple[type, str]] = {(type(thing), thing.name) for thing in declared}
        sources = [view.batch_source for view in views if view.batch_source]
        sources += [each for thing in declared for each in getattr(thing, "source_request_sources", {}).values()]
        kept |= {(type(source), source.name) for source in sources}
        known: list[Any] = [*store.list_entities(), *store.list_feature_views(), *store.list_on_demand_feature_views()]
        known += [*store.list_feature_services(), *store.list_data_sources()]
        gone = [thing for thing in known if (type(thing), thing.name) not in kept]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on-demand views are "experimental"
            store.apply(declared, objects_to_delete=gone, partial=False)
    counts = {name: sum(isinstance(thing, kind) for thing in declared) for name, kind in kinds.items()}
    return counts | {"features": sum(len(view.features) for view in views)}


def feature_names(settings: Settings, service: str) -> list[str]:
    """The features of a service, in its order.

    Raises:
        HindcastError: There is no such service.
    """
    from hindcast.features.feature_service import find_service, service_features

    return [feature for _, feature in service_features(find_service(open_store(settings), service))]


def join_keys(settings: Settings, service: str) -> list[str]:
    """The columns by which a service's features are looked up.

    Raises:
        HindcastError: There is no such service.
    """
    from hindcast.features import feature_service

    store = open_store(settings)
    views, _ = feature_service.service_views(store, feature_service.find_service(store, service))
    return feature_service.join_keys(views)


def historical_features(
    settings: Settings, problem: Problem, entity_rows: pl.DataFrame, snapshot: int | None = None
) -> pl.DataFrame:
    """Entity rows with the features of the problem's service as known at each row's prediction time.

    Args:
        settings: Of the home.
        problem: Names the service and the column of the prediction time.
        entity_rows: Join keys, prediction time (UTC where it has no zone), and anything else.
        snapshot: Reads the lake as it was then; None reads the newest.

    Returns:
        The same rows in the same order with all their columns, then the features in the service's order.

    Raises:
        HindcastError: A join key or the prediction time is missing or of another type, or a column has a feature's
            name.
    """
    from hindcast.features.feature_service import find_service, service_features
    from hindcast.features.retrieval import EVENT_TIMESTAMP

    store = open_store(settings, snapshot)
    service = find_service(store, problem.feature_service)
    names = [feature for _, feature in service_features(service)]
    if taken := sorted(set(names) & set(entity_rows.columns)):
        raise HindcastError(f"Entity rows have columns with the names of features: {', '.join(taken)}; rename them.")
    at = problem.prediction_time.column
    if at not in entity_rows.columns:
        raise HindcastError(f"Entity rows have no column {at}, the prediction time of {problem.name}.")
    asked = entity_rows.with_columns(pl.col(at).alias(EVENT_TIMESTAMP)).to_arrow()
    job = store.get_historical_features(asked, service)
    return entity_rows.hstack(pl.DataFrame(pl.from_arrow(job.to_arrow().select(names))))


def materialise(
    settings: Settings, start: datetime | None, end: datetime, registry: Path | None = None
) -> dict[str, int]:
    """Brings what became known up to `end` into the online store, all of it at once or nothing.

    Rows that nothing may use at `end` or later because of their view's TTL are left out. What the store knows
    already isn't replaced by anything older.

    Args:
        settings: Of the home.
        start: From when on rows became known (UTC); None fills the store afresh.
        end: Until when, included (UTC).
        registry: The one that defines the views; None for the home's.

    Returns:
        Keys written per view.

    Raises:
        HindcastError: `end` has no time zone, the lake lacks what a view takes, or the online store can't be reached.
    """
    from hindcast.features import feature_service
    from hindcast.features.asof import instant, latest_rows, name
    from hindcast.features.feature_service import open_online_store
    from hindcast.features.online_store import online_rows
    from hindcast.features.retrieval import feature_table

    if end.tzinfo is None:
        raise HindcastError(f"Materialising needs instants with a time zone: {end.isoformat()} has none.")
    store = feature_service.open_store(settings, **({"registry": str(registry)} if registry else {}))
    views = [view for view in store.list_feature_views() if view.online]
    if registry:  # the home's were held against the tables when they were registered
        _check_tables(settings, views)
    found = {}
    with Lake(settings).reading() as connection:
        connection.execute("BEGIN")  # all views are read at one snapshot
        for view in views:
            table = feature_table(view, [field.name for field in view.features])
            oldest = end - view.ttl if view.ttl else None
            sql = latest_rows(table, max(filter(None, (start, oldest)), default=None), end)
            if oldest:  # what came in later than it may still be of an event before it
                sql = f"FROM ({sql}) WHERE CAST({name(table.timestamp)} AS TIMESTAMP) >= {instant(oldest)}"
            found[view.name] = table, connection.execute(sql).to_arrow_table()
        snapshot = connection.execute("SELECT id FROM lake.current_snapshot()").fetchall()[0][0]
    online = open_online_store(store.config)
    rows = [(view, online_rows(view, *found[view.name])) for view in views]
    online.fill(store.config, rows, known_until=end, snapshot=snapshot, afresh=start is None)
    return {name: rows.num_rows for name, (_, rows) in found.items()}


def _load_repository(settings: Settings) -> list[Any]:
    """What `features.py` of the feature repository defines, read afresh."""
    path = settings.feature_repo / "features.py"
    name = "hindcast_feature_repository"  # not `features`, by which Feast's command line imports it
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        raise HindcastError(f"No feature repository {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Feast reads a function's source through its module
    spec.loader.exec_module(module)
    return list({id(thing): thing for thing in vars(module).values()}.values())


def _check_tables(settings: Settings, views: list["FeatureView"]) -> None:
    """Holds each view's declaration against its table: found now, and not when somebody asks for features."""
    from hindcast.features.lake_source import value_type
    from hindcast.features.retrieval import feature_table

    with Lake(settings).reading() as connection:
        columns: dict[str, dict[str, str]] = {}
        for schema, table, column, kind in connection.execute(
            "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'lake'"
        ).fetchall():
            columns.setdefault(f"{schema}.{table}", {})[column] = kind
    for view in views:
        table = feature_table(view, [field.name for field in view.features])
        found = columns.get(table.table)
        if found is None:
            raise HindcastError(f"Feature view {view.name}: the lake has no table {table.table}.")
        types = {field.name: field.dtype.to_value_type() for field in [*view.entity_columns, *view.features]}
        declared = {column: types[name] for column, name in (table.keys | table.features).items()}
        for column in [*declared, *filter(None, [table.timestamp, table.created])]:
            if column not in found:
                raise HindcastError(f"Feature view {view.name}: {table.table} has no column {column}.")
        for column, kind in declared.items():
            if value_type(found[column]) != kind:
                raise HindcastError(
                    f"Feature view {view.name}: {table.table}.{column} is {found[column]}, not {kind.name} as declared."
                )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A copy to be changed, which takes the place of the file at once and only if nothing fails.

    Feast writes its registry in place: killed half way, it would leave one that nobody can read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        copy = Path(folder, path.name)
        if path.exists():
            shutil.copyfile(path, copy)
        yield copy
        copy.replace(path)
