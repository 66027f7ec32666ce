"""How the SQL runs in the graph: one step per stage, its models as assets and its tests as their checks.

What the SQL says is in `dbt_project/`; how it is run, in `hindcast.tables.transform`.
"""

from collections.abc import Iterator, Mapping, Sequence
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

from assets.control import control_key, windows_key
from assets.resources import HindcastResource
from hindcast.errors import HindcastError
from hindcast.lake import Lake, version_of
from hindcast.problem import Problem
from hindcast.tables.catch_up import catch_up
from hindcast.tables.transform import NodeResult, build, domain_of, find_model, is_stage, manifest
from hindcast.workspace import Domain

_UNIQUE_ID = "dagster_dbt/unique_id"
_OF_PROBLEMS = ("labeled", "split")


class Translator(DagsterDbtTranslator):
    """Assets are named as their tables are, `schema/table`; from the labeled table on, their problem is in front.

    Where dbt reads what tells it about time, they depend on the asset that writes it.
    """

    def __init__(self, domain: Domain, problem: Problem | None) -> None:
        super().__init__()
        self._domain, self._problem = domain, problem

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> AssetKey:
        key = super().get_asset_key(dbt_resource_props)
        owner = _owner(self._domain, dbt_resource_props)
        return AssetKey([owner.name, *key.path]) if owner else key

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = manifest["nodes"].get(unique_id)
        if node is None:
            return spec
        deps = [dep for dep in spec.deps if dep.asset_key.path[0] != "control"]
        parents = node["depends_on"].get("nodes", [])
        if self._problem and is_stage(node, "split"):
            deps.append(AssetDep(windows_key(self._problem.name)))
        elif all(parent in manifest["sources"] for parent in parents) or len(deps) < len(list(spec.deps)):
            deps.append(AssetDep(control_key(self._domain.name)))
        return spec.replace_attributes(deps=deps)

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return str(dbt_resource_props.get("description") or "")


def _owner(domain: Domain, node: Mapping[str, Any]) -> Problem | None:
    """The problem that a labeled or split table belongs to."""
    table = f"{node.get('schema')}.{node.get('alias')}"
    return next((each for each in domain.problems if table in (each.labeled_table, each.split_table)), None)


def check_stages(domain: Domain) -> None:
    """Raises:
    HindcastError: The project doesn't say in which stage a domain's models are.
    """
    for node in manifest(domain.settings)["nodes"].values():
        if node["resource_type"] == "model" and domain_of(node) == domain.name and not node["tags"]:
            raise HindcastError(
                f"dbt_project/{node['original_file_path']} belongs to no stage: write `{domain.name}: *stages` below "
                "models.hindcast in dbt_project/dbt_project.yml, and keep to its folders."
            )


def dbt_stage(name: str, domain: Domain, stage: str, problem: Problem | None = None) -> list[AssetsDefinition]:
    """The models of a stage as one step: a domain's, or one problem's; nothing where there are none.

    Args:
        name: Of the step.
        domain: Whose folder of models it is.
        stage: Tag of the models (and seeds): cleaned, labeled, split or features.
        problem: Whose labeled or split table it is.

    Raises:
        HindcastError: A labeled or split table belongs to no problem.
    """
    described = manifest(domain.settings)
    nodes = [node for node in described["nodes"].values() if node["resource_type"] in ("model", "seed")]
    nodes = [node for node in nodes if stage in node["tags"] and domain_of(node) == domain.name]
    if problem:
        table = problem.labeled_table if stage == "labeled" else problem.split_table
        find_model(domain.settings.of(problem.name), table)  # says so where nothing makes it
    if stage in _OF_PROBLEMS:
        for node in nodes:
            if _owner(domain, node) is None:
                raise HindcastError(
                    f"dbt_project/{node['original_file_path']}: {node['alias']} is no problem's labeled_table "
                    "or split_table; what several use belongs into the folder intermediate."
                )
        nodes = [node for node in nodes if _owner(domain, node) == problem]
    if not nodes:
        return []
    select = " ".join(node["name"] for node in nodes)
    of = domain.name

    @dbt_assets(manifest=described, select=select, name=name, dagster_dbt_translator=Translator(domain, problem))
    def build_tables(context: AssetExecutionContext, hindcast: HindcastResource) -> Iterator[Any]:
        graph = context.assets_def
        models = {graph.get_asset_spec(key).metadata[_UNIQUE_ID]: key for key in context.selected_asset_keys}
        checks = {
            (graph.get_spec_for_check_key(key).metadata or {})[_UNIQUE_ID]: key
            for key in context.selected_asset_check_keys
        }
        names = [described["nodes"][unique_id]["name"] for unique_id in (*models, *checks)]
        names += [test["name"] for test in described["unit_tests"].values() if test["depends_on"]["nodes"][0] in models]
        catch_up(hindcast.domain(of), context.log.info)
        results = build(hindcast.domain(of).settings, names)
        yield from _results(hindcast.domain(of).lake, described, models, checks, results)

    return [build_tables]


def _results(
    lake: Lake,
    described: Mapping[str, Any],
    models: Mapping[str, AssetKey],
    checks: Mapping[str, AssetCheckKey],
    results: Sequence[NodeResult],
) -> Iterator[Any]:
    """What dbt did, as Dagster knows it."""
    for result in results:
        if result.unique_id in models and not result.failed:
            key, node = models[result.unique_id], described["nodes"][result.unique_id]
            metadata, version = _described(lake, node, result)
            yield MaterializeResult(asset_key=key, metadata=metadata, data_version=DataVersion(version))
        elif result.unique_id in checks and result.status != "skipped":
            yield _check(checks[result.unique_id], result)
    # A failing check stops the run by itself; what has no check of its own is reported here, but not what was left
    # out because of one.
    stopped = any(result.failed and result.status != "skipped" for result in results if result.unique_id in checks)
    faults = [
        result
        for result in results
        if result.failed and result.unique_id not in checks and not (stopped and result.status == "skipped")
    ]
    if faults:
        raise Failure("; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in faults))


def _described(lake: Lake, node: Mapping[str, Any], result: NodeResult) -> tuple[dict[str, Any], str]:
    """What is shown of a table, and a version of its content: what is made from it isn't stale if that is the same."""
    table = f'"{node["schema"]}"."{node["alias"]}"'
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
