"""Runs the SQL of `dbt_project/` on the lake, in this process. What the SQL makes of the tables is not known here.

In this process, because a child would go on writing after its parent was killed and the lake's lock with it.
"""

import json
import os
import pickle
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from hindcast.errors import HindcastError
from hindcast.files import exclusive, write_atomically
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.tables.failures import explain_failure
from hindcast.tables.freshness import find_up_to_date, forget_missing_tables, raw_tables, read_entries
from hindcast.tables.windows import BUILT_UNTIL

_DBT = ("dbt-core", "dbt-adapters", "dbt-duckdb", "duckdb")
_ROW_GROUP = 122_880  # rows: of what DuckDB gives a thread, the least


@dataclass(frozen=True)
class NodeResult:
    """What became of one model, seed or test.

    Attributes:
        unique_id: As the manifest names it, e.g. `model.hindcast.…`.
        kind: model, seed, test or unit_test; operation where a hook of the project failed.
        status: success, pass, warn, fail, error or skipped.
        seconds: How long it took.
        failures: Rows that a test found at fault.
        message: dbt's word on it; of a failed test, what it found (`hindcast.tables.failures`).
    """

    unique_id: str
    kind: str
    status: str
    seconds: float
    failures: int
    message: str

    @property
    def failed(self) -> bool:
        return self.status in {"fail", "error", "skipped"}


def build(settings: Settings, names: Collection[str]) -> list[NodeResult]:
    """Builds seeds and models and runs tests, in the order that they depend on each other, in the lake writer's turn.

    A model whose tests fail stops what is built from it; that is in the results, and not raised. What nothing new has
    come to is left as it is, and has taken no time (`hindcast.tables.freshness`); how a table is brought on instead of
    made afresh is said in `dbt_project/macros/increments.sql`.

    Args:
        settings: Names the lake and the SQL.
        names: Of seeds, models, tests and unit tests. Tests are run only if named.

    Returns:
        One result per name that has a table or is a test, what is made from something after it; and of hooks, those
        that failed.

    Raises:
        HindcastError: A name is unknown or not the only one, or dbt couldn't start at all: the SQL can't be parsed, or
            the lake not opened.
    """
    described = manifest(settings)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for node in (*described["nodes"].values(), *described["unit_tests"].values()):
        by_name.setdefault(node["name"], []).append(node)
    for name in sorted(names):
        if len(by_name.get(name, ())) != 1:
            many = "two things" if name in by_name else "nothing"
            raise HindcastError(f"{settings.dbt_project} has {many} named {name}: a test's name must be its own.")
    asked = {by_name[name][0]["unique_id"]: by_name[name][0] for name in sorted(names)}
    lake = Lake(settings)
    up_to_date = find_up_to_date(lake, described, sql_versions(settings), asked)
    results = [
        NodeResult(node["unique_id"], kind, "pass" if "test" in kind else "success", 0.0, 0, "nothing new")
        for node in asked.values()
        if node["unique_id"] in up_to_date.skipped and (kind := node["resource_type"])
    ]
    select = [node["name"] for node in asked.values() if node["unique_id"] not in up_to_date.skipped]
    if not select:
        return _in_order(results, described)
    # Nothing reads the files that dbt would write about the run.
    options = ["--indirect-selection", "empty", "--no-write-json"]
    # So little is done hardly sooner by several threads, which cost more in sum: the other cores are for who serves.
    os.environ["HINDCAST_THREADS"] = "1" if up_to_date.news is not None and up_to_date.news < _ROW_GROUP else ""
    with lake.turn():
        parsed = pickle.loads(_parsed(settings).with_suffix(".pickle").read_bytes())
        done = _dbt(settings, settings.dbt_target, parsed, "build", "--select", *select, *options)
    results += [
        NodeResult(
            unique_id=node.node.unique_id,
            kind=str(node.node.resource_type),
            status=str(node.status),
            seconds=float(node.execution_time),
            failures=int(node.failures or 0),
            message=explain_failure(lake, node.node, int(node.failures or 0), str(node.message or ""))
            if node.status in ("fail", "warn")
            else str(node.message or ""),
        )
        for node in done.results
        if node.node.resource_type != "operation" or node.status != "success"  # hooks that did their work
    ]
    return _in_order(results, described)


def built_until(settings: Settings) -> dict[str, datetime]:
    """Per node, by unique id, until when (UTC, without a zone) its table holds all that is known, by today's SQL.

    A table that is gone isn't among them.
    """
    lake = Lake(settings)
    if not lake.exists(BUILT_UNTIL):
        return {}
    with lake.writing() as connection:
        entries = read_entries(connection, sql_versions(settings))
        forget_missing_tables(connection, manifest(settings)["nodes"], entries)
    return entries


def tables_of_labels(settings: Settings, problem: Problem) -> set[str]:
    """The raw tables that a problem's labeled table is made from, directly or not.

    Raises:
        HindcastError: The SQL makes no such table.
    """
    described = manifest(settings)
    return raw_tables(described)[find_model(settings.of(problem.name), problem.labeled_table)]


def find_model(settings: Settings, table: str) -> str:
    """The unique id of the model that makes a table (`schema.table`).

    Raises:
        HindcastError: The SQL makes no such table.
    """
    for unique_id, node in manifest(settings)["nodes"].items():
        if node["resource_type"] == "model" and f"{node['schema']}.{node['alias']}" == table:
            return str(unique_id)
    raise HindcastError(f"{settings.dbt_project} makes no table {table}, which {settings.problem_file} names.")


def training_sql(settings: Settings, problem: Problem, feature_tables: Collection[str]) -> list[str]:
    """Versions of the SQL that a problem's training set is made from; none where there is no SQL, as beside a bento.

    Args:
        settings: Names the SQL.
        problem: Names the split table.
        feature_tables: Those that its features are taken from, as `schema.table`.
    """
    if not (settings.dbt_project / "dbt_project.yml").exists():
        return []
    versions = sql_versions(settings)
    return [versions[find_model(settings, table)] for table in (problem.split_table, *sorted(feature_tables))]


def nodes_of(settings: Settings, problem: Problem) -> list[str]:
    """Unique ids of a domain's seeds, models and tests, without other problems' labeled and split tables and what is
    made from these."""
    nodes = {name: node for name, node in manifest(settings)["nodes"].items() if domain_of(node) == problem.domain}
    own = (problem.labeled_table, problem.split_table)
    others = {
        name
        for name, node in nodes.items()
        if any(is_stage(node, stage) for stage in ("labeled", "split"))
        and f"{node['schema']}.{node['alias']}" not in own
    }
    parents = {name: node["depends_on"].get("nodes", ()) for name, node in nodes.items()}
    for name in TopologicalSorter(parents).static_order():
        if others.intersection(parents.get(name, ())):
            others.add(name)
    return [name for name in nodes if name not in others]


def is_stage(node: dict[str, Any], stage: str) -> bool:
    """Whether a node of dbt's manifest is a model of a stage: cleaned, labeled, split or features."""
    return node["resource_type"] == "model" and stage in node["tags"]


def sql_versions(settings: Settings) -> dict[str, str]:
    """Per node, by unique id, a version of its SQL and of everything that it is made from.

    What another domain's or another problem's files say has no part in it.
    """
    return _sql_versions(_parsed(settings), settings.dbt_project)


@cache
def _sql_versions(parsed: Path, project: Path) -> dict[str, str]:
    described = _read_manifest(parsed)
    declared = yaml.safe_load((project / "dbt_project.yml").read_text())
    common = {key: value for key, value in declared.items() if key not in ("models", "seeds")}  # in the nodes' config
    files = [*(project / "macros").glob("*.sql"), *(project / "tests").rglob("*.sql")]
    of_all = fingerprint(files, [json.dumps(common, sort_keys=True), *map(version, _DBT)])
    of_domains: dict[str, str] = {}
    nodes = {**described["nodes"], **described["unit_tests"]}
    found: dict[str, str] = {}

    def find(unique_id: str) -> str:
        if unique_id not in nodes:
            return unique_id  # a source
        if unique_id not in found:
            node, domain = nodes[unique_id], domain_of(nodes[unique_id])
            if domain not in of_domains:
                of_domains[domain] = fingerprint((project / "macros" / domain).rglob("*.sql"), [of_all])
            of_file = [project / node["original_file_path"]] if node["resource_type"] == "seed" else []
            parents = sorted(map(find, node["depends_on"].get("nodes", ())))
            found[unique_id] = fingerprint(of_file, [of_domains[domain], _written(node), *parents])
        return found[unique_id]

    return {unique_id: find(unique_id) for unique_id in nodes}


def _written(node: dict[str, Any]) -> str:
    """What makes a node what it is, but for descriptions."""
    keys = ("raw_code", "config", "schema", "alias", "test_metadata", "given", "expect", "overrides")
    columns = {
        name: [column.get("data_type"), column.get("constraints")] for name, column in node.get("columns", {}).items()
    }
    return json.dumps([{key: node.get(key) for key in keys}, columns], sort_keys=True, default=str)


def domain_of(node: dict[str, Any]) -> str:
    """The domain that a node of dbt's manifest belongs to: the first folder below `models/` or `seeds/`.

    Raises:
        HindcastError: It lies in none.
    """
    if len(node["fqn"]) < 3:
        raise HindcastError(
            f"dbt_project/{node['original_file_path']}: {node['name']} belongs to no domain; move it to a folder named "
            "after one, as in dbt_project/models/<domain>/staging/."
        )
    return str(node["fqn"][1])


def _in_order(results: list[NodeResult], described: dict[str, Any]) -> list[NodeResult]:
    """What is made from something comes after it."""
    parents = {name: node["depends_on"].get("nodes", ()) for name, node in described["nodes"].items()}
    order = {name: number for number, name in enumerate(TopologicalSorter(parents).static_order())}
    return sorted(results, key=lambda result: order.get(result.unique_id, -1))


def manifest(settings: Settings) -> dict[str, Any]:
    """dbt's description of all models, tests and what they are made from; parsed anew only when a file has changed.

    Raises:
        HindcastError: The SQL or a description can't be parsed; dbt's message says where.
    """
    return _read_manifest(_parsed(settings))


@cache
def _read_manifest(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _parsed(settings: Settings) -> Path:
    """The file of dbt's manifest. Beside it lies the object that dbt runs from: to read that takes a hundredth of what
    it takes to make it again, at every step of every run."""
    project = settings.dbt_project
    of = fingerprint(values=[_version_of_the_files(project), version("dbt-common"), sys.version, project])
    kept = settings.dbt_target / "manifests" / f"{of}.json"
    with exclusive(settings.locks / "dbt-manifest"):
        if not kept.exists():
            settings.scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=settings.scratch, prefix="dbt-") as folder:
                parsed = _dbt(settings, Path(folder), None, "parse")
                # By fields, as dbt's own way to pickle a manifest mixes two of them up; those with _ are its caches.
                names = [field.name for field in fields(parsed) if not field.name.startswith("_")]
                content = {name: getattr(parsed, name) for name in names}
                write_atomically(kept.with_suffix(".pickle"), pickle.dumps(content))
                write_atomically(kept, Path(folder, "manifest.json").read_bytes())
            for old in set(kept.parent.iterdir()) - {kept, kept.with_suffix(".pickle")}:
                old.unlink()
    return kept


def _version_of_the_files(project: Path) -> str:
    files = [path for path in project.rglob("*.*") if path.suffix in {".sql", ".yml", ".yaml", ".csv", ".py", ".md"}]
    return fingerprint(files, [*map(version, _DBT), *sorted(path.relative_to(project) for path in files)])


def _dbt(settings: Settings, target: Path, parsed: dict[str, Any] | None, *arguments: str) -> Any:
    """Runs a command of dbt in this process, from a parsed manifest's fields or from the files; returns its result."""
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    os.environ.update(settings.environment())  # profiles.yml reads where the lake is from the environment
    # To parse the SQL takes no versions, which come from what is parsed.
    os.environ["HINDCAST_SQL_VERSIONS"] = json.dumps(sql_versions(settings)) if parsed else "{}"
    folders = ["--project-dir", settings.dbt_project, "--profiles-dir", settings.dbt_project]
    folders += ["--target-path", target, "--log-path", settings.dbt_target / "logs"]
    quiet = ["--log-level", "none", "--log-level-file", "none"]
    done = dbtRunner(manifest=Manifest(**parsed) if parsed else None).invoke([*arguments, *quiet, *map(str, folders)])
    if done.exception is not None or done.result is None:
        raise HindcastError(f"dbt {arguments[0]} failed: {done.exception}")
    return done.result
