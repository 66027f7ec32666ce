"""Runs the SQL of `dbt_project/` on the lake, in this process. What the SQL makes of the tables is not known here.

In this process, because a child would go on writing after its parent was killed and the lake's lock with it.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hindcast.errors import HindcastError
from hindcast.files import exclusive, write_atomically
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake
from hindcast.settings import Settings


@dataclass(frozen=True)
class NodeResult:
    """What became of one model, seed or test.

    Attributes:
        unique_id: As the manifest names it, e.g. `model.hindcast.…`.
        kind: model, seed, test or unit_test.
        status: success, pass, warn, fail, error or skipped.
        seconds: How long it took.
        failures: Rows that a test found at fault.
        message: dbt's word on it.
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


def build(settings: Settings, select: Sequence[str], unit_tests: Iterable[str] = ()) -> list[NodeResult]:
    """Builds models and runs tests, in the order that they depend on each other, in the lake writer's turn.

    A model whose tests fail stops what is built from it; that is in the results, and not raised. How a table is
    brought on instead of made afresh is said in `dbt_project/macros/increments.sql`.

    Args:
        settings: Names the lake and the SQL.
        select: Names of the models and tests, or dbt's selectors. Tests are run only if selected.
        unit_tests: Names of unit tests. They show that the SQL is right, whatever the data: one that has passed is
            run again when the SQL has changed.

    Raises:
        HindcastError: dbt couldn't start at all: the SQL can't be parsed, or the lake not opened.
    """
    passed = settings.dbt_target / "passed" / f"{_version_of_the_sql(settings.dbt_project)}.json"
    before = set(json.loads(passed.read_text())) if passed.exists() else set()
    select = [*select, *sorted(set(unit_tests) - before)]
    with Lake(settings).turn():
        result = _dbt(settings, settings.dbt_target, "build", "--select", *select, "--indirect-selection", "empty")
    now = {
        node.node.name for node in result.results if node.node.resource_type == "unit_test" and node.status == "pass"
    }
    if now:
        write_atomically(passed, json.dumps(sorted(before | now)))
    return [
        NodeResult(
            unique_id=node.node.unique_id,
            kind=str(node.node.resource_type),
            status=str(node.status),
            seconds=float(node.execution_time),
            failures=int(node.failures or 0),
            message=str(node.message or ""),
        )
        for node in result.results
    ]


def manifest(settings: Settings) -> dict[str, Any]:
    """dbt's description of all models, tests and what they are made from; parsed anew only when a file has changed.

    Raises:
        HindcastError: The SQL or a description can't be parsed; dbt's message says where.
    """
    return _manifest(settings, _version_of_the_sql(settings.dbt_project))


@cache
def _manifest(settings: Settings, of: str) -> dict[str, Any]:
    kept = settings.dbt_target / "manifests" / f"{of}.json"
    with exclusive(settings.locks / "dbt-manifest"):
        if not kept.exists():
            settings.scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=settings.scratch, prefix="dbt-") as folder:
                _dbt(settings, Path(folder), "parse")
                write_atomically(kept, Path(folder, "manifest.json").read_bytes())
            for old in set(kept.parent.glob("*.json")) - {kept}:
                old.unlink()
    content: dict[str, Any] = json.loads(kept.read_text())
    return content


def _version_of_the_sql(project: Path) -> str:
    files = [path for path in project.rglob("*.*") if path.suffix in {".sql", ".yml", ".csv"}]
    return fingerprint(
        files, [version("dbt-core"), version("duckdb"), *sorted(path.relative_to(project) for path in files)]
    )


def _dbt(settings: Settings, target: Path, *arguments: str) -> Any:
    from dbt.cli.main import dbtRunner

    os.environ.update(settings.environment())  # profiles.yml reads where the lake is from the environment
    os.environ["HINDCAST_SQL_VERSION"] = _version_of_the_sql(settings.dbt_project)
    folders = ["--project-dir", settings.dbt_project, "--profiles-dir", settings.dbt_project]
    folders += ["--target-path", target, "--log-path", settings.dbt_target / "logs"]
    done = dbtRunner().invoke(
        [*arguments, "--quiet", "--no-use-colors", "--log-level-file", "none", *map(str, folders)]
    )
    if done.exception is not None or done.result is None:
        raise HindcastError(f"dbt {arguments[0]} failed: {done.exception}")
    return done.result
