"""Several domains and problems in one checkout and one home: each runs, and none makes another be done again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.e2e.conftest import ROOT, World
from tests.e2e.test_runs import PHASES, ran
from tests.patience import lines_of
from tests.tides import add_cancelled, add_tides, remove_tides

HOME = "home"
RUNS = """
import json
from dagster import DagsterInstance
with DagsterInstance.get() as instance:
    runs = instance.get_runs()
    assets = [sorted(key.to_user_string() for key in run.asset_selection or ()) for run in runs]
    print(json.dumps([[run.job_name, selected] for run, selected in zip(runs, assets, strict=True)]))
"""


class Several(World):
    """Another world's checkout and finished home, copied, where a second domain and a third problem are added."""

    def __init__(self, folder: Path, world: World, finished: str) -> None:
        self.root, self.folder = folder / "checkout", folder
        shutil.copytree(world.root, self.root, symlinks=True)
        for name in ("dbt_project", "feature_repo"):
            (self.root / name).unlink()
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copytree(world.folder / finished, folder / HOME, symlinks=True)
        add_tides(self.root)
        add_cancelled(self.root)

    def job(self, problem: str, *options: str) -> str:
        command = [str(Path(sys.executable).with_name("hindcast")), "run", problem, *options]
        done = subprocess.run(command, cwd=self.root, env=self.environment(HOME), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return done.stdout

    def runs(self) -> list[tuple[str, list[str]]]:
        """Job and assets of every run so far, the newest first."""
        environment = self.environment(HOME) | {"DAGSTER_HOME": str(self.settings.dagster_home)}
        done = subprocess.run(
            [sys.executable, "-c", RUNS], cwd=self.root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [(job, assets) for job, assets in json.loads(done.stdout)]

    def since(self, before: list[Any]) -> list[tuple[str, list[str]]]:
        return self.runs()[: len(self.runs()) - len(before)]

    @property
    def settings(self) -> Settings:
        return Settings(self.root, self.folder / HOME)

    def champion(self, problem: str) -> Any:
        return json.loads(self.settings.of(problem).champion_file.read_text())["version"]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, world: World, finished: str) -> Several:
    several = Several(tmp_path_factory.mktemp("several"), world, finished)
    assert "nothing was computed again" in several.job("flight_delay")
    for problem in ("high_tide", "flight_cancelled"):
        several.job(problem)
    return several


def test_each_problem_has_its_champion_and_its_log(several: Several) -> None:
    versions = {problem: several.champion(problem) for problem in ("flight_delay", "high_tide", "flight_cancelled")}
    assert all(version.startswith(problem) for problem, version in versions.items())
    with Lake(several.settings).reading() as connection:
        for problem, version in versions.items():
            logged = connection.execute(f"SELECT count(*), any_value(model_version) FROM {problem}.requests").fetchall()
            assert logged[0][0] > 0
            assert logged[0][1] == version
    tide = several.hindcast(HOME, "status", "high_tide", "--json")
    assert json.loads(tide)["now"].startswith("2024-04-22")
    assert json.loads(several.hindcast(HOME, "status", "flight_delay", "--json"))["now"].startswith("2013-03-02T12")


def test_where_several_could_be_meant_they_are_named(several: Several) -> None:
    command = [str(Path(sys.executable).with_name("hindcast")), "status"]
    done = subprocess.run(command, cwd=several.root, env=several.environment(HOME), capture_output=True, text=True)
    assert done.returncode == 1
    assert "holds several problems: name one of flight_cancelled, flight_delay, high_tide." in done.stderr


def test_an_unchanged_problem_does_nothing(several: Several) -> None:
    before = several.runs()
    for problem in ("flight_delay", "high_tide", "flight_cancelled"):
        assert "nothing was computed again" in several.job(problem)
    assert several.since(before) == []


def test_a_change_of_one_problems_files_does_nothing_of_anothers(several: Several) -> None:
    before = several.runs()
    sql = several.root / "dbt_project" / "models" / "flights" / "labeled" / "flight_cancellations.sql"
    sql.write_text(sql.read_text().replace("720", "780"))
    file = several.root / "problems" / "flight_cancelled.yaml"
    problem = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(problem | {"budget": problem["budget"] | {"seed": 14}}))
    for other in ("flight_delay", "high_tide"):
        assert "nothing was computed again" in several.job(other)
    assert several.since(before) == []
    process = several.start(HOME, "-m", "assets.run", problem="flight_cancelled")
    assert any("▸ build the bento" in line for line in lines_of(process))  # what follows is as in the first run
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = several.since(before)
    assert {job for job, _ in done} >= {"flight_cancelled_build", "flight_cancelled_train"}
    assert all(asset.startswith("flight_cancelled/") for _, assets in done for asset in assets)


def test_a_change_of_the_domains_sql_is_redone_by_each_of_its_problems(several: Several) -> None:
    sql = several.root / "dbt_project" / "models" / "tides" / "features" / "harbour_levels.sql"
    sql.write_text(sql.read_text().replace("level\n", "level * 2 as level\n"))
    before = several.runs()
    assert "nothing was computed again" in several.job("flight_delay")
    several.job("high_tide")
    assert all(job.startswith("high_tide_") for job, _ in several.since(before))
    assert any("features/harbour_levels" in assets for _, assets in several.since(before))


def test_another_limit_redoes_nothing_before_it(several: Several) -> None:
    file = several.root / "problems" / "high_tide.yaml"
    problem = yaml.safe_load(file.read_text())
    before = several.runs()
    problem["monitoring"]["drift_quantile"] = 0.9
    file.write_text(yaml.safe_dump(problem))
    several.job("high_tide")
    assert several.since(before) == [("high_tide_monitor", ["high_tide/monitoring_report"])]
    before = several.runs()
    problem["leakage"]["max_null_pattern_rate"] = 0.995
    file.write_text(yaml.safe_dump(problem))
    output = several.job("high_tide")
    assert "other limits" in output
    assert several.since(before) == [("high_tide_train", [])]  # checks alone
    assert "nothing was computed again" in several.job("high_tide")


def test_all_of_one_problem_is_done_again_by_force(several: Several) -> None:
    champion, before = several.champion("high_tide"), several.runs()
    output = several.job("high_tide", "--force")
    assert ran(output) == list(PHASES.values())
    own = {f"high_tide_{job}" for job in PHASES.values() if job != "ingest"}
    assert {job for job, _ in several.since(before)} == {"tides_ingest"} | own
    assert several.champion("high_tide") == champion


def test_two_that_claim_one_name_are_both_named(several: Several) -> None:
    file = several.root / "problems" / "twice.yaml"
    problem = yaml.safe_load((several.root / "problems" / "high_tide.yaml").read_text())
    file.write_text(yaml.safe_dump(problem | {"name": "twice"}))
    command = [sys.executable, "-c", "import assets.definitions"]
    done = subprocess.run(command, cwd=several.root, env=several.environment(HOME), capture_output=True, text=True)
    file.unlink()
    assert (
        f"{several.root}/problems/high_tide.yaml and {file} both claim the table labeled.harbour_floods" in done.stderr
    )


def test_a_domain_goes_with_its_files(several: Several) -> None:
    remove_tides(several.root)
    assert "nothing was computed again" in several.job("flight_delay")
