"""What needs doing: which assets aren't what they would become if they were made now, and why. One truth for all.

Decided from what Dagster records of each asset, made by the main job, the UI or the daemon alike: by which code and
from which versions of its inputs. And from what the home holds: a product that is gone must be made again.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from dagster import AssetCheckKey, AssetCheckSeverity, AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance

from assets.features import views_key
from assets.inputs import CODE_VERSION, DATA_VERSION, LIMITS, limits_version
from hindcast.errors import HindcastError
from hindcast.lake import tables_of
from hindcast.package.model import read_package
from hindcast.promotion.champion import champion_folder
from hindcast.serving.server import bento_folder, champion_tag
from hindcast.settings import Settings
from hindcast.workspace import Workspace

_INPUT = "dagster/input_data_version/"
_NEVER = "INITIAL"
"""What Dagster records as the version of an input that has none."""
_MANY_PARTITIONS = 100
"""From so many on, Dagster records the newest partition's version as the whole input's."""

Tags = Mapping[str, str]


@dataclass(frozen=True)
class Graph:
    """The assets of one home beside what is recorded of them, read once. Products are looked for of one problem.

    Attributes:
        workspace: The problem.
        instance: Keeps the records.
        assets: Dagster's asset graph.
        months: Partitions that must be there, of assets that have any.
    """

    workspace: Workspace
    instance: DagsterInstance
    assets: Any
    months: tuple[str, ...]

    def stale(self, asked: AbstractSet[AssetKey]) -> dict[AssetKey, str]:
        """Per asked asset that isn't up to date, the first reason that was found."""
        found = {}
        for key in sorted(asked):
            if (
                reason := self._missing_products.get(key)
                or self._outdated(key)
                or self._torn(key)
                or self._unchecked(key)
            ):
                found[key] = reason
        return found

    def checks_of_other_limits(self, asked: AbstractSet[AssetKey]) -> list[AssetCheckKey]:
        """Checks of asked assets that were held against limits which have changed since."""
        now = limits_version(self.workspace.problem)
        found = []
        for key in sorted(asked):
            for check, execution in self._blocking_checks.get(key, {}).items():
                event = execution.event.dagster_event if execution and execution.event else None
                said = event.asset_check_evaluation_data if event else None
                if said and LIMITS in said.metadata and said.metadata[LIMITS].value != now:
                    found.append(check)
        return found

    @cached_property
    def _entries(self) -> dict[AssetKey, Any]:
        records = self.instance.get_asset_records(list(self.assets.get_all_asset_keys()))
        entries = {record.asset_entry.asset_key: record.asset_entry for record in records}
        return {key: entry for key, entry in entries.items() if entry.last_materialization is not None}

    def _tags(self, key: AssetKey) -> Tags:
        entry = self._entries.get(key)
        return (entry.last_materialization.asset_materialization.tags or {}) if entry else {}

    def _tags_of_months(self, key: AssetKey, months: Iterable[str]) -> Mapping[str, Tags]:
        """Per partition that was made, the tags of its last materialisation."""
        newest = self.instance.event_log_storage.get_latest_storage_id_by_partition(
            key, DagsterEventType.ASSET_MATERIALIZATION, set(months)
        )
        if not newest:
            return {}
        wanted = AssetRecordsFilter(key, storage_ids=list(newest.values()))
        records = self.instance.fetch_materializations(wanted, limit=len(newest)).records
        return {str(record.partition_key): record.asset_materialization.tags or {} for record in records}

    def _version(self, key: AssetKey, for_key: AssetKey) -> str:
        """The present version of an input, in the form in which Dagster records it with what is made from it."""
        partitions = self.assets.get(key).partitions_def
        if key not in self._entries or partitions is None:
            return self._tags(key).get(DATA_VERSION, _NEVER)
        partitioned = self.assets.get(for_key).partitions_def is not None
        months = self.months if partitioned else partitions.get_partition_keys()
        if len(months) >= _MANY_PARTITIONS:
            return self._tags(key).get(DATA_VERSION, _NEVER)
        tags = self._tags_of_months(key, months)
        return sha256("".join(tags[month][DATA_VERSION] for month in sorted(tags)).encode()).hexdigest()

    def _outdated(self, key: AssetKey) -> str | None:
        node = self.assets.get(key)
        if key not in self._entries:
            return "it was never made"
        wanted = {CODE_VERSION: node.code_version}
        wanted |= {_INPUT + parent.to_user_string(): self._version(parent, key) for parent in node.parent_keys}
        recorded: Mapping[str, Tags] = {"": self._tags(key)}
        if node.partitions_def is not None:
            recorded = self._tags_of_months(key, self.months)
            if absent := [month for month in self.months if month not in recorded]:
                return f"{absent[0]} was never made"
        for tags in recorded.values():
            for name, version in wanted.items():
                if tags.get(name) != version:
                    return "its code has changed" if name == CODE_VERSION else f"{name.removeprefix(_INPUT)} is new"
        return None

    def _torn(self, key: AssetKey) -> str | None:
        """Whether a run began to make it again and didn't come to its end."""
        entry = self._entries[key]
        if entry.last_run_id == entry.last_materialization.run_id:
            return None
        step = self.assets.get(key).assets_def.node_def.name
        planned = self.instance.fetch_planned_materializations(key, limit=100).records
        since = [each for each in planned if each.storage_id > entry.last_materialization_record.storage_id]
        for run_id in dict.fromkeys(each.run_id for each in since):
            if run_id != entry.last_materialization.run_id and self.instance.get_run_step_stats(run_id, [step]):
                return f"run {run_id} stopped while it was made"
        return None

    @cached_property
    def _blocking_checks(self) -> dict[AssetKey, dict[Any, Any]]:
        """Per asset its blocking checks, each with its last execution."""
        specs = [spec for made in self.assets.assets_defs for spec in made.check_specs if spec.blocking]
        last = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([spec.key for spec in specs])
        found: dict[AssetKey, dict[Any, Any]] = {}
        for spec in specs:
            found.setdefault(spec.asset_key, {})[spec.key] = last.get(spec.key)
        return found

    def _unchecked(self, key: AssetKey) -> str | None:
        made = self._entries[key].last_materialization
        for check, execution in self._blocking_checks.get(key, {}).items():
            event = execution.event.dagster_event if execution and execution.event else None
            if event is None or event.event_type != DagsterEventType.ASSET_CHECK_EVALUATION:
                return f"check {check.name} didn't come to its end"
            said = event.asset_check_evaluation_data
            if not said.passed and said.severity == AssetCheckSeverity.ERROR:
                return f"check {check.name} failed"
            if execution.run_id != made.run_id and execution.event.timestamp < made.timestamp:
                return f"check {check.name} is older"
        return None

    @cached_property
    def _missing_products(self) -> dict[AssetKey, str]:
        keys = self.assets.executable_asset_keys
        if not self._settings.lake_catalogue.exists():
            return dict.fromkeys(keys, "there is no lake")
        with self.workspace.lake.reading() as connection:
            tables = tables_of(connection)
        missing = {}
        for key in keys & self._entries.keys():
            if ".".join(key.path[-2:]) not in tables and self._had_rows(key):
                missing[key] = "its table is gone"
        for name, paths in self._files().items():
            if gone := [path.name for path in paths if not path.exists()]:
                missing[self._key(name)] = f"{gone[0]} is gone"
        if not self._settings.feast_registry.exists():
            missing[views_key(self.workspace.domain.name)] = "Feast's registry is gone"
        for name, faults in (("champion", self._package_faults()), ("bento", self._bento_faults())):
            if faults:
                missing[self._key(name)] = faults
        return missing

    @property
    def _settings(self) -> Settings:
        return self.workspace.settings

    def _key(self, name: str) -> AssetKey:
        return AssetKey([self.workspace.problem.name, name])

    def _had_rows(self, key: AssetKey) -> bool:
        """Whether a table was made, and not an empty one, which may be left out."""
        rows = self._entries[key].last_materialization.asset_materialization.metadata.get("dagster/row_count")
        return rows is not None and rows.value > 0

    def _files(self) -> dict[str, list[Path]]:
        """The files that the problem's assets make."""
        settings, reports = self._settings, self._settings.reports
        package = self._tags(self._key("model_package")).get(DATA_VERSION)
        online = yaml.safe_load((settings.feature_repo / "feature_store.yaml").read_text())["online_store"]
        in_home = online["type"].endswith("SqliteOnlineStore") and "path" not in online
        return {
            "profile": [reports / "profile.html"],
            "online_store": [settings.online_store] if in_home else [],
            "candidates": [settings.candidates_file],
            "evaluation": [reports / "evaluation.json", reports / "evaluation.html"],
            "model_package": [settings.challenger_file, *([settings.models / package] if package else [])],
            "verdict": [settings.verdicts / f"{package}.json"] if package else [],
            "champion": [settings.champion_file],
            "served_requests": [settings.replay_file] if self.workspace.sources.clock else [],
            "serving_parity": [reports / "parity.json", reports / "parity.html"],
            "monitoring_report": [reports / "monitoring.json"],
        }

    def _package_faults(self) -> str | None:
        try:
            read_package(champion_folder(self._settings))
        except HindcastError as error:
            return str(error)
        return None

    def _bento_faults(self) -> str | None:
        try:
            tag = champion_tag(self._settings)
        except HindcastError as error:
            return str(error)
        return None if bento_folder(self._settings, tag).is_dir() else f"{tag} is gone"
