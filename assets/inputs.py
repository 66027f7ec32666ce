"""Stage inputs: what the graph reads but doesn't make, as assets with a version: clocks, source files, problem files.

Their versions are recorded when a run begins, so that each asset records which of them it was made from. Here is also
which code makes which asset. What follows from both is decided in `up_to_date.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dagster import AssetKey, AssetMaterialization, AssetSpec, DagsterInstance

from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.problem import Problem
from hindcast.tables.transform import sql_versions
from hindcast.workspace import Catalogue, Domain, Workspace

CODE_VERSION, DATA_VERSION = "dagster/code_version", "dagster/data_version"
LIMITS = "limits"
"""Metadata of a check: the version of the limits that it was held against."""

_OF_DOMAIN = {
    "clock": "The instant (UTC) at which the clock stood when a run began.",
    "source_files": "The sources file and the files that it names, by their content.",
}
_OF_PROBLEM = {
    "data": "Of the problem file: entity, label, windows, feature service.",
    "training": "The problem file but for limits of leak alarms, monitoring and the service.",
    "monitoring": "Of the problem file: monitoring.",
    "serving": "Of the problem file: serving.",
}
_READ_BY = {  # assets of a problem -> its inputs
    "windows": ["data"],
    "profile": ["data"],
    "feature_history": ["data"],
    "training_set": ["data"],
    "candidates": ["training"],
    "evaluation": ["training"],
    "model_package": ["training"],
    "verdict": ["training"],
    "bento": ["training", "serving"],
    "served_requests": ["training"],
    "monitoring_report": ["monitoring"],
}
_READ_THE_CLOCK = {
    *("windows", "online_store", "served_requests", "labeled_requests", "serving_parity", "monitoring_report"),
}
_DATA = {"entity", "label", "splits", "prediction_time", "feature_service"}
_NOT_TRAINING = {"monitoring", "leakage", "serving"}


def input_specs(catalogue: Catalogue) -> list[AssetSpec]:
    """All inputs of all domains and problems."""
    of_domains = [(name, _OF_DOMAIN) for name in catalogue.domains]
    of_problems = [(name, _OF_PROBLEM) for name in catalogue.workspaces]
    return [
        AssetSpec(_input(owner, name), description=description, group_name="1_inputs")
        for owner, inputs in (*of_domains, *of_problems)
        for name, description in inputs.items()
    ]


def limits_version(problem: Problem) -> str:
    """Of the limits that leak alarms are held against."""
    return fingerprint(values=[problem.leakage.model_dump_json()])


def with_inputs(catalogue: Catalogue) -> Callable[[AssetSpec], AssetSpec]:
    """Adds to each asset the inputs that it reads and the version of the code that makes it."""
    settings = next(iter(catalogue.domains.values())).settings
    root = settings.root
    of_python = fingerprint([*root.glob("hindcast/**/*.py"), *root.glob("assets/**/*.py"), root / "requirements.lock"])
    of_service = fingerprint(settings.bentos.glob("*.*"), [of_python])
    of_views = {name: fingerprint(settings.feature_files(name), [of_python]) for name in catalogue.domains}
    of_sql = sql_versions(settings)
    tables = {f"raw/{table}": name for name, domain in catalogue.domains.items() for table in domain.sources.tables}

    def inputs(key: AssetKey) -> list[AssetKey]:
        if domain := tables.get(key.to_user_string()):
            return [_input(domain, "clock"), _input(domain, "source_files")]
        if key.path[0] == "control":
            return [_input(key.path[1], "clock")]
        if workspace := catalogue.workspaces.get(key.path[0]):
            read = [_input(key.path[0], name) for name in _READ_BY.get(key.path[1], ())]
            clock = [_input(workspace.problem.domain, "clock")] if key.path[1] in _READ_THE_CLOCK else []
            return [*read, *clock]
        return []

    def code(spec: AssetSpec) -> str:
        if node := spec.metadata.get("dagster_dbt/unique_id"):
            return of_sql[node]
        if spec.key.path[0] == "feature_views":
            return of_views[spec.key.path[1]]
        return fingerprint(values=[of_service if spec.key.path[-1] == "bento" else of_python, spec.code_version])

    def change(spec: AssetSpec) -> AssetSpec:
        if spec.key.path[0] == "inputs":
            return spec
        return spec.replace_attributes(code_version=code(spec), deps=[*spec.deps, *inputs(spec.key)])

    return change


def report(instance: DagsterInstance, catalogue: Catalogue, only: str | None = None) -> None:
    """Records the versions that the inputs have now, where they have changed.

    Args:
        instance: Keeps them.
        catalogue: The domains and problems.
        only: The domain whose files are looked at; None for all that are there.

    Raises:
        HindcastError: The sources file of that domain names a folder that isn't there.
    """
    versions: dict[AssetKey, str] = {}
    for name, domain in catalogue.domains.items():
        try:
            found = _versions_of_domain(domain) if only in (None, name) else {}
        except HindcastError:
            if only:
                raise
            continue  # who ingests it says so
        versions |= {_input(name, key): version for key, version in found.items()}
    for name, workspace in catalogue.workspaces.items():
        versions |= {_input(name, key): version for key, version in _versions_of_problem(workspace.problem).items()}
    champions = {AssetKey([name, "champion"]): workspace for name, workspace in catalogue.workspaces.items()}
    records = {record.asset_entry.asset_key: record for record in instance.get_asset_records([*versions, *champions])}
    for key, version in versions.items():
        if _tags(records.get(key)).get(DATA_VERSION) != version:
            instance.report_runless_asset_event(AssetMaterialization(key, tags={DATA_VERSION: version}))
    for key, workspace in champions.items():
        _report_champion(instance, key, workspace, _tags(records.get(key)))


def _versions_of_domain(domain: Domain) -> dict[str, str]:
    folder, _ = domain.sources.origin(domain.settings.root)
    files = [path for table in domain.sources.tables.values() for path in folder.glob(table.file)]
    declaration = fingerprint([domain.settings.sources_file(domain.name)])
    return {"clock": domain.clock.now().isoformat(), "source_files": fingerprint(files, [declaration])}


def _versions_of_problem(problem: Problem) -> dict[str, str]:
    return {
        "data": fingerprint(values=[problem.model_dump_json(include=_DATA)]),
        "training": fingerprint(values=[problem.model_dump_json(exclude=_NOT_TRAINING)]),
        "monitoring": fingerprint(values=[problem.monitoring.model_dump_json()]),
        "serving": fingerprint(values=[problem.serving.model_dump_json()]),
    }


def _report_champion(
    instance: DagsterInstance, key: AssetKey, workspace: Workspace, recorded: Mapping[str, str]
) -> None:
    """Records which package is in use where a command (`hindcast rollback`) has changed it since the graph did."""
    from hindcast.promotion.champion import current  # with NumPy, which must find the home's environment when loaded

    champion = current(workspace.settings)
    if champion and recorded and recorded[DATA_VERSION] != champion["version"]:
        tags = {**recorded, DATA_VERSION: champion["version"]}
        instance.report_runless_asset_event(AssetMaterialization(key, tags=tags))


def _input(owner: str, name: str) -> AssetKey:
    return AssetKey(["inputs", owner, name])


def _tags(record: Any) -> dict[str, str]:
    event = record.asset_entry.last_materialization if record else None
    return dict(event.asset_materialization.tags or {}) if event and event.asset_materialization else {}
