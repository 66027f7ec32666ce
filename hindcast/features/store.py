"""Feast for one home: registers what the feature repository declares, and retrieves features as known then.

How rows are joined is `retrieval`'s work, filling the online store `materialise`'s, reading for the service `online`'s.
"""

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import polars as pl

from hindcast.artefacts import require_json
from hindcast.errors import HindcastError
from hindcast.files import exclusive
from hindcast.lake import Lake
from hindcast.package.model import FEATURES, SIGNATURE
from hindcast.problem import Problem
from hindcast.settings import Settings

# Feast takes most of a second to import: only the functions that need it do.
if TYPE_CHECKING:
    from hindcast.features.feast_imports import FeatureStore, FeatureView


def open_store(settings: Settings, snapshot: int | None = None, registry: Path | None = None) -> "FeatureStore":
    """Feast over this home.

    Args:
        settings: Says where registry, lake and online store lie.
        snapshot: Reads the lake as it was then.
        registry: The one that defines the features; None for the home's.
    """
    from hindcast.features import feature_service

    changes = {"registry": str(registry)} if registry else {}
    return feature_service.open_store(settings, offline_store={"snapshot": snapshot}, **changes)


def apply(settings: Settings, domain: str) -> dict[str, int]:
    """Registers what the feature repository declares for a domain, and takes out what no file declares any more.

    Args:
        settings: Of the home.
        domain: Name of its file. Of others, tables may not be built yet.

    Returns:
        How many there are of each kind: entities, feature_views, on_demand_feature_views, feature_services; and the
        feature_views' features.

    Raises:
        HindcastError: A view's table, or a column that it declares, isn't in the lake or is of another type.
    """
    from hindcast.features import feature_service
    from hindcast.features.feast_imports import Entity, FeatureService, FeatureView, OnDemandFeatureView

    kinds = {
        "entities": Entity,
        "feature_views": FeatureView,
        "on_demand_feature_views": OnDemandFeatureView,
        "feature_services": FeatureService,
    }
    repository = _load_repository(settings, tuple(kinds.values()))
    if domain not in repository:
        raise HindcastError(f"No feature views of {domain}: there is no {settings.feature_repo / domain}.py.")
    declared: list[Any] = repository[domain]
    views = [thing for thing in declared if isinstance(thing, FeatureView)]
    check_tables(settings, views)
    with exclusive(settings.locks / "feast-registry"), _replacing(settings.feast_registry) as registry:
        store = feature_service.open_store(settings, registry=str(registry))
        every = [thing for things in repository.values() for thing in things]
        kept: set[tuple[type, str]] = {(type(thing), thing.name) for thing in every}
        sources = [thing.batch_source for thing in every if isinstance(thing, FeatureView) and thing.batch_source]
        sources += [each for thing in every for each in getattr(thing, "source_request_sources", {}).values()]
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


def asked_columns(settings: Settings, service: str) -> list[str]:
    """The columns by which a service's features are looked up, then those that come with a request.

    Raises:
        HindcastError: There is no such service.
    """
    from hindcast.features import feature_service
    from hindcast.features.on_demand import request_fields

    store = open_store(settings)
    views, on_demand = feature_service.service_views(store, feature_service.find_service(store, service))
    with_request = [field for view in on_demand for field in request_fields(view)]
    return list(dict.fromkeys([*feature_service.join_keys(views), *with_request]))


def feature_tables(settings: Settings, service: str) -> set[str]:
    """The tables (`schema.table`) that a service's features are taken from.

    Raises:
        HindcastError: There is no such service.
    """
    from hindcast.features import feature_service
    from hindcast.features.lake_source import feature_table

    store = open_store(settings)
    views, _ = feature_service.service_views(store, feature_service.find_service(store, service))
    return {feature_table(view, []).table for view in views}


def historical_features(
    settings: Settings,
    problem: Problem,
    entity_rows: pl.DataFrame,
    snapshot: int | None = None,
    service: str | None = None,
    registry: Path | None = None,
) -> pl.DataFrame:
    """Entity rows with the features of a service as known at each row's prediction time.

    Args:
        settings: Of the home.
        problem: Names the column of the prediction time.
        entity_rows: Join keys, prediction time (UTC where it has no zone), and anything else.
        snapshot: Reads the lake as it was then; None reads the newest.
        service: Name of the feature service; None for the problem's.
        registry: The one that defines it; None for the home's.

    Returns:
        The same rows in the same order with all their columns, then the features in the service's order.

    Raises:
        HindcastError: A join key or the prediction time is missing or of another type, a column has a feature's
            name, or a registry of its own was given and the lake lacks a table or column that it takes.
    """
    from hindcast.features.feature_service import find_service, service_features, service_views
    from hindcast.features.retrieval import EVENT_TIMESTAMP

    store = open_store(settings, snapshot, registry)
    found = find_service(store, service or problem.feature_service)
    if registry:  # the home's was held against the tables when it was registered
        check_tables(settings, service_views(store, found)[0], snapshot)
    names = [feature for _, feature in service_features(found)]
    if taken := sorted(set(names) & set(entity_rows.columns)):
        raise HindcastError(f"Entity rows have columns with the names of features: {', '.join(taken)}; rename them.")
    at = problem.prediction_time.column
    if at not in entity_rows.columns:
        raise HindcastError(f"Entity rows have no column {at}, the prediction time of {problem.name}.")
    asked = entity_rows.with_columns(pl.col(at).alias(EVENT_TIMESTAMP)).to_arrow()
    job = store.get_historical_features(asked, found)
    return entity_rows.hstack(pl.DataFrame(pl.from_arrow(job.to_arrow().select(names))))


def _load_repository(settings: Settings, kinds: tuple[type, ...]) -> dict[str, list[Any]]:
    """What each file of the feature repository defines of some kinds, by its domain, read afresh.

    Raises:
        HindcastError: There is no file, or two define something of the same kind and name.
    """
    found: dict[str, list[Any]] = {}
    defined_in: dict[tuple[str, str], str] = {}
    for path in sorted(settings.feature_repo.glob("*.py")):
        name = f"hindcast_feature_repository_{path.stem}"  # not its own, by which Feast's command line imports it
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # Feast reads a function's source through its module
        # Not by import: its cache takes a file of the same second and size for the same.
        exec(compile(path.read_text(), str(path), "exec"), vars(module))
        things = {id(thing): thing for thing in vars(module).values() if isinstance(thing, kinds)}
        found[path.stem] = list(things.values())
        for thing in found[path.stem]:
            kind = type(thing).__name__
            if (other := defined_in.setdefault((kind, thing.name), path.name)) != path.name:
                raise HindcastError(
                    f"{settings.feature_repo}: {other} and {path.name} both define the {kind} {thing.name}: rename one."
                )
    if not found:
        raise HindcastError(f"No feature repository {settings.feature_repo}: it has no file of a domain.")
    return found


def check_tables(settings: Settings, views: Sequence["FeatureView"], snapshot: int | None = None) -> None:
    """Holds each view's declaration against its table: found now, and not when somebody asks for features.

    Raises:
        HindcastError: The lake (at a snapshot, or the newest) has no such table or column, or one of another type.
    """
    from hindcast.features.lake_source import feature_table, value_type

    with Lake(settings).reading(snapshot) as connection:
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


def package_views(settings: Settings, package: Path) -> list["FeatureView"]:
    """The feature views of a package's service, as its own registry defines them."""
    from hindcast.features import feature_service

    store = open_store(settings, registry=package / FEATURES)
    service = feature_service.find_service(store, require_json(package / SIGNATURE)["feature_service"])
    return feature_service.service_views(store, service)[0]


def check_package(settings: Settings, package: Path, snapshot: int | None = None) -> None:
    """Holds the features that a package defines against the lake.

    Raises:
        HindcastError: The lake (at a snapshot, or the newest) no longer has a table or column that the package takes
            features from, or that table is no longer made.
    """
    views = package_views(settings, package)
    try:
        check_tables(settings, views, snapshot)
        _check_still_made(settings, views)
    except HindcastError as error:
        raise HindcastError(f"{package.name} can no longer get its features. {error}") from error


def _check_still_made(settings: Settings, views: Sequence["FeatureView"]) -> None:
    """What dbt no longer makes stays in the lake, and would get old there without a word."""
    from hindcast.features.lake_source import feature_table

    registered = {feature_table(view, []).table for view in open_store(settings).list_feature_views()}
    others = {table: view.name for view in views if (table := feature_table(view, []).table) not in registered}
    if not others or not (settings.dbt_project / "dbt_project.yml").exists():
        return
    from hindcast.tables.transform import manifest

    made = {f"{node['schema']}.{node['alias']}" for node in manifest(settings)["nodes"].values() if "alias" in node}
    for table, view in others.items():
        if table not in made:
            raise HindcastError(f"Feature view {view}: the dbt project no longer makes {table}.")


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
