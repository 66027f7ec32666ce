"""Stage inputs: what the graph reads but doesn't make, as assets with a version: the clock, source files, the problem.

Their versions are recorded when a run begins, so that each asset records which of them it was made from. Here is also
which code makes which asset. What follows from both is decided in `up_to_date.py`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from dagster import AssetKey, AssetMaterialization, AssetSpec, DagsterInstance

from hindcast.fingerprint import fingerprint
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.tables.sources import load_sources

CODE_VERSION, DATA_VERSION = "dagster/code_version", "dagster/data_version"
CHAMPION = AssetKey("champion")
CLOCK, SOURCE_FILES, DATA, TRAINING, MONITORING = (
    AssetKey(["inputs", name]) for name in ("clock", "source_files", "data", "training", "monitoring")
)

specs = [
    AssetSpec(key, description=description)
    for key, description in {
        CLOCK: "The instant (UTC) at which the clock stood when a run began.",
        SOURCE_FILES: "The sources file and the files that it names, by their content.",
        DATA: "Of the problem file: entity, label, windows, feature service.",
        TRAINING: "The problem file but for monitoring and the clock.",
        MONITORING: "Of the problem file: monitoring.",
    }.items()
]

_OF_STAGES = {
    "raw": [CLOCK, SOURCE_FILES],
    "control": [CLOCK, DATA],
    "profile": [DATA],
    "train": [TRAINING],
    "evaluate": [TRAINING],
    "package": [TRAINING],
    "monitor": [CLOCK, MONITORING],
}
_OF_ASSETS = {
    AssetKey(["train", "training_set"]): [DATA],
    AssetKey("feature_history"): [DATA],
    AssetKey("online_store"): [CLOCK],
    AssetKey("bento"): [TRAINING],
    AssetKey("served_requests"): [CLOCK, TRAINING],
}


def with_inputs(settings: Settings) -> Callable[[AssetSpec], AssetSpec]:
    """Adds to each asset the inputs that it reads and the version of the code that makes it."""
    root = settings.root
    python = [*root.glob("hindcast/**/*.py"), *root.glob("assets/**/*.py"), root / "requirements.lock"]
    sql = [path for path in settings.dbt_project.rglob("*.*") if path.suffix in {".sql", ".yml", ".csv"}]
    of_python, of_sql = fingerprint(python), fingerprint(sql)
    views = fingerprint(settings.feature_repo.glob("*.*"), [of_python])
    of_inputs = {spec.key for spec in specs}
    of_assets = {
        AssetKey("bento"): fingerprint(settings.bentos.glob("*.*"), [of_python]),
        AssetKey("feature_views"): views,
        AssetKey("online_store"): views,
    }

    def change(spec: AssetSpec) -> AssetSpec:
        if spec.key in of_inputs:
            return spec
        if "dagster_dbt/unique_id" in spec.metadata:
            version = of_sql
        else:
            version = fingerprint(values=[of_assets.get(spec.key, of_python), spec.code_version])
        inputs = [*_OF_STAGES.get(spec.group_name or "", ()), *_OF_ASSETS.get(spec.key, ())]
        return spec.replace_attributes(code_version=version, deps=[*spec.deps, *inputs])

    return change


def report(instance: DagsterInstance, settings: Settings, problem: Problem, now: datetime) -> None:
    """Records the versions that the inputs have now, where they have changed.

    Args:
        instance: Keeps them.
        settings: Where the files are.
        problem: The problem file's content.
        now: The clock's instant, UTC.

    Raises:
        HindcastError: The sources file breaks its form, or names a folder that isn't there.
    """
    declaration = settings.sources_folder / f"{problem.sources}.yaml"
    sources = load_sources(declaration)
    folder, _ = sources.origin(settings.root)
    files = [path for table in sources.tables.values() for path in folder.glob(table.file)]
    shape = {"entity", "label", "splits", "prediction_time", "feature_service", "leakage"}
    versions = {
        CLOCK: now.isoformat(),
        SOURCE_FILES: fingerprint(files, [fingerprint([declaration])]),
        DATA: fingerprint(values=[problem.model_dump_json(include=shape)]),
        TRAINING: fingerprint(values=[problem.model_dump_json(exclude={"monitoring", "clock"})]),
        MONITORING: fingerprint(values=[problem.monitoring.model_dump_json()]),
    }
    records = {record.asset_entry.asset_key: record for record in instance.get_asset_records([*versions, CHAMPION])}
    for key, version in versions.items():
        if _tags(records.get(key)).get(DATA_VERSION) != version:
            instance.report_runless_asset_event(AssetMaterialization(key, tags={DATA_VERSION: version}))
    _report_champion(instance, settings, _tags(records.get(CHAMPION)))


def _report_champion(instance: DagsterInstance, settings: Settings, recorded: dict[str, str]) -> None:
    """Records which package is in use where a command (`hindcast rollback`) has changed it since the graph did."""
    from hindcast.promotion.champion import (
        current,  # with NumPy, which must find the home's environment when it is loaded
    )

    champion = current(settings)
    if champion and recorded and recorded[DATA_VERSION] != champion["version"]:
        tags = recorded | {DATA_VERSION: champion["version"]}
        instance.report_runless_asset_event(AssetMaterialization(CHAMPION, tags=tags))


def _tags(record: Any) -> dict[str, str]:
    event = record.asset_entry.last_materialization if record else None
    return dict(event.asset_materialization.tags or {}) if event and event.asset_materialization else {}
