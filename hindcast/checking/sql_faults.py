"""Faults of a domain's SQL and its descriptions: missing models, and columns that a problem takes for granted."""

import re
from pathlib import Path
from typing import Any

import yaml

from hindcast.checking.fault import Fault, did_you_mean
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.sources import Sources
from hindcast.tasks import TASKS

_REF, _SOURCE = (
    re.compile(r"\bref\(\s*[\"'](\w+)[\"']"),
    re.compile(r"\bsource\(\s*[\"'](\w+)[\"']\s*,\s*[\"'](\w+)[\"']"),
)
_SPLIT = re.compile(r"split_rows\(\s*(?:problem\s*=\s*)?[\"'](\w+)[\"']")
_STAGES = ("staging", "intermediate", "features", "labeled", "split")


class Models:
    """The dbt models of one domain.

    Args:
        settings: Of the checkout.
        domain: Its name.

    Attributes:
        files: SQL by model name.
        described: File, and the YAML's entry, by model name.
        faults: Of YAML files that can't be read.
    """

    def __init__(self, settings: Settings, domain: str) -> None:
        self.folder = settings.dbt_project / "models" / domain
        self.files = {file.stem: file for file in sorted(self.folder.rglob("*.sql"))}
        self.described: dict[str, tuple[Path, dict[str, Any]]] = {}
        self.faults: list[Fault] = []
        for file in sorted(self.folder.rglob("*.yml")):
            try:
                content = yaml.safe_load(file.read_text()) or {}
            except yaml.YAMLError as error:
                self.faults.append(Fault(file, "", f"it is not YAML: {str(error).splitlines()[0]}"))
                continue
            for model in content.get("models", []):
                self.described[model["name"]] = (file, model)

    def columns(self, model: str) -> dict[str, str]:
        """Type by column, as described; empty where nothing is."""
        _, entry = self.described.get(model, (None, {}))
        return {column["name"]: str(column.get("data_type", "")).lower() for column in entry.get("columns", [])}


def check_models(settings: Settings, domain: str, sources: Sources, models: Models) -> list[Fault]:
    """What a domain's SQL refers to and isn't there, and feature tables that aren't described as they must be."""
    faults = list(models.faults)
    every = {file.stem for file in (settings.dbt_project / "models").rglob("*.sql")}
    every |= {file.stem for file in (settings.dbt_project / "seeds").rglob("*.csv")}
    if not models.files:
        return [*faults, Fault(models.folder, "", "there is no SQL of this domain; `hindcast new` writes a first one.")]
    for name, file in models.files.items():
        text = file.read_text()
        faults += [
            Fault(file, f"ref({ref})", f"there is no model {ref}; {did_you_mean(ref, every)}")
            for ref in _REF.findall(text)
            if ref not in every
        ]
        for schema, table in _SOURCE.findall(text):
            if schema == "raw" and table not in sources.tables:
                hint = did_you_mean(table, sources.tables)
                faults.append(Fault(file, f"source({table})", f"the sources file declares no table {table}; {hint}"))
        if file.parent.name not in _STAGES:
            faults.append(Fault(file, "", f"it lies in none of the folders {', '.join(_STAGES)}."))
        if file.parent.name == "features":
            faults += _check_feature_table(name, file, models)
    return faults


def check_problem_tables(file: Path, problem: Problem, models: Models) -> list[Fault]:
    """What a problem file says of its labeled and split tables."""
    faults = []
    for key, stage in (("labeled_table", "labeled"), ("split_table", "split")):
        schema, _, table = getattr(problem, key).partition(".")
        if schema != stage or not table:
            faults.append(Fault(file, key, f"write {stage}.<model>, not {getattr(problem, key)}."))
        elif table not in models.files:
            there = [name for name, path in models.files.items() if path.parent.name == stage]
            faults.append(
                Fault(file, key, f"there is no model {table} in {models.folder}; {did_you_mean(table, there)}")
            )
    split = models.files.get(problem.split_table.partition(".")[2])
    if split and (named := _SPLIT.search(split.read_text())) and named[1] != problem.name:
        faults.append(Fault(split, "split_rows", f"it splits for {named[1]}, and {file.name} takes it for its own."))
    labeled = problem.labeled_table.partition(".")[2]
    columns = models.columns(labeled)
    if not columns:
        if labeled in models.files:
            faults.append(
                Fault(models.files[labeled], "", f"no YAML file beside it describes the columns of {labeled}.")
            )
        return faults
    return faults + _check_columns(file, problem, columns)


def _check_columns(file: Path, problem: Problem, columns: dict[str, str]) -> list[Fault]:
    faults = []
    wanted = [
        ("entity.key", problem.entity.key),
        ("prediction_time.column", problem.prediction_time.column),
        ("label.column", problem.label.column),
        ("label.known_at", problem.label.known_at),
        *(("slices.columns", column) for column in problem.slices.columns),
        *(("baseline.columns", column) for column in problem.baseline.columns),
    ]
    for key, column in wanted:
        if column not in columns:
            hint = did_you_mean(column, columns)
            faults.append(Fault(file, key, f"{problem.labeled_table} has no column {column}; {hint}"))
    for key, column in (wanted[1], wanted[3]):
        if columns.get(column, "timestamp") not in ("timestamp", "date"):
            faults.append(Fault(file, key, f"{column} is {columns[column]}; it must be a timestamp (UTC)."))
    kind, allowed = columns.get(problem.label.column, ""), TASKS[problem.task].label_types
    if kind and kind.partition("(")[0] not in allowed:
        said = f"{problem.label.column} is {kind}; a {problem.task} label is {' or '.join(allowed)}."
        faults.append(Fault(file, "label.column", said))
    if problem.label.column in (problem.entity.key, problem.prediction_time.column, problem.label.known_at):
        faults.append(Fault(file, "label.column", f"{problem.label.column} can't be key, time and label at once."))
    return faults


def _check_feature_table(name: str, file: Path, models: Models) -> list[Fault]:
    if name not in models.described:
        return [Fault(file, "", f"no YAML file beside it describes {name}: its columns, types and entity_keys.")]
    described, entry = models.described[name]
    columns = models.columns(name)
    keys = ((entry.get("config") or {}).get("meta") or {}).get("entity_keys")
    faults = []
    if "event_timestamp" not in columns:
        what = "it has no column event_timestamp: when the values became known (UTC)."
        faults.append(Fault(described, f"{name}.columns", what))
    if not keys:
        what = "write `config: {meta: {entity_keys: [columns]}}`: by what rows are looked up."
        faults.append(Fault(described, f"{name}.config.meta.entity_keys", what))
    for key in keys or ():
        if key not in columns:
            what = f"{name} has no column {key}; {did_you_mean(key, columns)}"
            faults.append(Fault(described, f"{name}.config.meta.entity_keys", what))
    return faults
