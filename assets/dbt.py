"""How the SQL runs in the graph: one step per stage, its models as assets and its tests as their checks.

What the SQL says is in `dbt_project/`; how it is run, in `hindcast.tables.transform`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    DataVersion,
    Failure,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
)
from dagster_dbt import DagsterDbtTranslator, dbt_assets

from assets.resources import HindcastResource
from hindcast.lake import Lake, version_of
from hindcast.settings import Settings
from hindcast.tables.catch_up import catch_up
from hindcast.tables.transform import NodeResult, build, manifest

_UNIQUE_ID = "dagster_dbt/unique_id"
_CONTROL = AssetKey(["control", "instants"])


class Translator(DagsterDbtTranslator):
    """Assets are named as their tables are, `schema/table`, and described in words; the SQL is in the repository.

    The first of them come after `control`: dbt reads that before it builds anything.
    """

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = manifest["nodes"].get(unique_id)
        parents = node["depends_on"].get("nodes", []) if node else []
        first = node is not None and all(parent in manifest["sources"] for parent in parents)
        if first and all(dep.asset_key != _CONTROL for dep in spec.deps):
            return spec.replace_attributes(deps=[*spec.deps, AssetDep(_CONTROL)])
        return spec

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return str(dbt_resource_props.get("description") or "")


def dbt_stage(name: str, select: str) -> AssetsDefinition:
    """All models that a dbt selector finds, as one step.

    Args:
        name: Of the step.
        select: dbt's selector, e.g. `tag:cleaned`.
    """
    described = manifest(Settings.from_environment())

    @dbt_assets(manifest=described, select=select, name=name, dagster_dbt_translator=Translator())
    def stage(context: AssetExecutionContext, hindcast: HindcastResource) -> Iterator[Any]:
        graph = context.assets_def
        models = {graph.get_asset_spec(key).metadata[_UNIQUE_ID]: key for key in context.selected_asset_keys}
        checks = {
            (graph.get_spec_for_check_key(key).metadata or {})[_UNIQUE_ID]: key
            for key in context.selected_asset_check_keys
        }
        names = [described["nodes"][unique_id]["name"] for unique_id in (*models, *checks)]
        names += [test["name"] for test in described["unit_tests"].values() if test["depends_on"]["nodes"][0] in models]
        catch_up(hindcast.settings, hindcast.problem, context.log.info)
        results = build(hindcast.settings, names)
        for result in results:
            if result.unique_id in models and not result.failed:
                key, node = models[result.unique_id], described["nodes"][result.unique_id]
                metadata, version = _described(hindcast.lake, key, node, result)
                yield MaterializeResult(asset_key=key, metadata=metadata, data_version=DataVersion(version))
            elif result.unique_id in checks and result.status != "skipped":
                yield _check(checks[result.unique_id], result)
        # A failing check stops the run by itself; what has no check of its own must be told, but not that it was left
        # out because of one.
        stopped = any(result.failed and result.status != "skipped" for result in results if result.unique_id in checks)
        faults = [
            result
            for result in results
            if result.failed and result.unique_id not in checks and not (stopped and result.status == "skipped")
        ]
        if faults:
            raise Failure("; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in faults))

    return stage


def _described(lake: Lake, key: AssetKey, node: Mapping[str, Any], result: NodeResult) -> tuple[dict[str, Any], str]:
    """What is shown of a table, and a version of its content: what is made from it isn't stale if that is the same."""
    table = ".".join(f'"{part}"' for part in key.path)
    with lake.reading() as connection:
        version = version_of(connection, f"FROM {table}")
        rows = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        shown = connection.execute(f"FROM {table}").pl() if node["config"]["meta"].get("show_rows") else None
    metadata: dict[str, Any] = {"dagster/row_count": rows, "seconds": round(result.seconds, 2)}
    if shown is not None:
        columns = [TableColumn(name) for name in shown.columns]
        records = [TableRecord(row) for row in shown.to_dicts()]
        metadata["rows"] = MetadataValue.table(records, TableSchema(columns))
    return metadata, version


def _check(key: AssetCheckKey, result: NodeResult) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.status == "pass",
        severity=AssetCheckSeverity.WARN if result.status == "warn" else AssetCheckSeverity.ERROR,
        description=result.message or None,
        metadata={"failures": result.failures, "seconds": round(result.seconds, 2)},
    )
