"""Stage features: tables of what was known when, registered with Feast, joined for training and filled for serving.

What a feature is stands in `dbt_project/` and `feature_repo/`; the joins are `hindcast.features.retrieval`'s work.
"""

from datetime import UTC

from dagster import AssetCheckResult, AssetKey, DataVersion, MaterializeResult, asset, asset_check

from assets.dbt import dbt_stage
from assets.resources import HindcastResource
from hindcast.fingerprint import fingerprint
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.windows import INSTANTS, read_instants

# Feast takes seconds to import: what needs it is imported where it is used.

TRAINING_SET = AssetKey(["train", "training_set"])
_SPLIT = AssetKey(load_problem(Settings.from_environment().problem_file).split_table.split("."))
_INSTANTS = AssetKey(INSTANTS.split("."))

feature_tables = dbt_stage("features", select="tag:features")


@asset(deps=sorted(feature_tables.keys), kinds={"feast"})
def feature_views(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """Feast's registry: the entities, views and feature services that the feature repository declares."""
    from hindcast.features.store import apply

    settings = hindcast.settings
    return MaterializeResult(
        metadata=apply(settings) | {"registry": str(settings.feast_registry)},
        data_version=DataVersion(fingerprint(settings.feature_repo.glob("feature*"))),
    )


@asset(deps=[feature_views], kinds={"feast"})
def online_store(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """Per key of each feature view the newest row known by now, for the service to read; by every definition in use."""
    from hindcast.features.materialise import materialise

    now = hindcast.clock.now()
    keys = materialise(hindcast.settings, None, now)
    return MaterializeResult(
        metadata={"keys": sum(keys.values()), "known_until": now.isoformat(), **keys},
        data_version=DataVersion(fingerprint(values=[now, keys])),
    )


@asset(deps=[*sorted(feature_tables.keys), feature_views, _INSTANTS], kinds={"duckdb"})
def feature_history(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """What the feature tables held as of the as-of instant, by its content: all that a training set takes from them.

    The tables grow as time goes by; only where their history is corrected, a training set is made from something else.
    """
    from hindcast.features.history import versions_as_of

    as_of = read_instants(hindcast.lake)["as_of"].replace(tzinfo=UTC)
    versions = versions_as_of(hindcast.settings, hindcast.lake, hindcast.problem.feature_service, as_of)
    return MaterializeResult(
        metadata={"as_of": as_of.isoformat(), **versions},
        data_version=DataVersion(fingerprint(values=[as_of, *sorted(versions.items())])),
    )


@asset(key=TRAINING_SET, deps=[_SPLIT, feature_views, feature_history], kinds={"feast", "duckdb"})
def training_set(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per split entity, with the features of the problem's service as known at its prediction time."""
    from hindcast.training.training_set import build

    built = build(hindcast.settings, hindcast.problem, hindcast.lake)
    return MaterializeResult(
        metadata={
            "dagster/row_count": sum(built.rows.values()),
            **{f"rows_{split}": rows for split, rows in built.rows.items()},
            "features": built.features,
            "content_hash": built.content_hash,
            "changed": built.written,
            "snapshot": built.snapshot,
        },
        data_version=DataVersion(built.content_hash),
    )


@asset_check(
    asset=TRAINING_SET,
    description="A unique key, labels that come later than the question, features with finite values.",
    blocking=True,
)
def can_be_trained_on(hindcast: HindcastResource) -> AssetCheckResult:
    from hindcast.features.store import feature_names
    from hindcast.tables.schemas import explain_faults, faults_of
    from hindcast.training.training_set import TABLE, training_schema

    schema = training_schema(hindcast.problem, feature_names(hindcast.settings, hindcast.problem.feature_service))
    rows, faults = faults_of(hindcast.lake, hindcast.problem, TABLE, schema)
    told = explain_faults(hindcast.problem, TABLE, faults) if faults else None
    return AssetCheckResult(passed=not faults, description=told, metadata={"rows": rows, "faults": len(faults)})
