"""Features: views registered with Feast, per problem what its views held as of the split, the online store.

What a feature is stands in `dbt_project/` and `feature_repo/`; the joins are `hindcast.features.retrieval`'s work.
"""

from dagster import AssetKey, AssetsDefinition, DataVersion, MaterializeResult, asset

from assets.control import windows_key
from assets.resources import HindcastResource
from hindcast.fingerprint import fingerprint
from hindcast.pipeline import feature_versions, fill_online_store
from hindcast.workspace import Domain, Workspace

# Feast takes seconds to import: what needs it is imported where it is used.


def views_key(domain: str) -> AssetKey:
    return AssetKey(["feature_views", domain])


def build_feature_views(domain: Domain, tables: list[AssetKey]) -> AssetsDefinition:
    """The asset `feature_views/<domain>`."""
    of = domain.name

    @asset(key=views_key(of), deps=tables, kinds={"feast"})
    def feature_views(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Feast's registry: the entities, views and feature services that the feature repository declares."""
        from hindcast.features.store import apply

        settings = hindcast.domain(of).settings
        return MaterializeResult(
            metadata=apply(settings, of) | {"registry": str(settings.feast_registry)},
            data_version=DataVersion(fingerprint(settings.feature_files(of))),
        )

    return feature_views


def build_features(workspace: Workspace, tables: list[AssetKey]) -> list[AssetsDefinition]:
    """The assets `<problem>/feature_history` and `<problem>/online_store`."""
    of, views = workspace.problem.name, views_key(workspace.problem.domain)

    @asset(key=[of, "feature_history"], deps=[*tables, views, windows_key(of)], kinds={"duckdb"})
    def feature_history(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """What the feature tables held as of the as-of instant, by content: all that a training set takes from them.

        The tables grow as time goes by; only where their history is corrected, a training set is made from something
        else.
        """
        as_of, versions = feature_versions(hindcast.problem(of))
        return MaterializeResult(
            metadata={"as_of": as_of.isoformat(), **versions},
            data_version=DataVersion(fingerprint(values=[as_of, *sorted(versions.items())])),
        )

    @asset(key=[of, "online_store"], deps=[AssetKey([of, "feature_history"])], kinds={"feast"})
    def online_store(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Per key of each view the newest row known by now, for the service to read; by every definition in use."""
        found = hindcast.problem(of)
        now, keys = found.clock.now(), fill_online_store(found)
        return MaterializeResult(
            metadata={"keys": sum(keys.values()), "known_until": now.isoformat(), **keys},
            data_version=DataVersion(fingerprint(values=[now, keys])),
        )

    return [feature_history, online_store]
