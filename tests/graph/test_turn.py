"""Runs of one home take turns, killed ones are ended, and the UI sees those of `hindcast run`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    RunsFilter,
    asset,
    define_asset_job,
    in_process_executor,
)

from assets.launch import job_origin, run_job
from assets.resources import HindcastResource
from assets.turn import end_dead_runs, mark_alive, turn
from hindcast.errors import HindcastError
from hindcast.home import prepare
from hindcast.settings import Settings
from tests.conftest import ROOT

# A graph in which a step writes down when it begins and ends; with a slow one as long as a file is there.
GRAPH = """
import json, os, sys, time
from pathlib import Path
from dagster import AssetExecutionContext, DagsterInstance, Definitions, asset, define_asset_job, in_process_executor
from assets.launch import run_job
from assets.resources import HindcastResource
from hindcast.settings import Settings

settings, mark = Settings.from_environment(), Path(sys.argv[1])


def note(text):
    with mark.open("a") as file:
        file.write(text + "\\n")


@asset
def first(hindcast: HindcastResource) -> None:
    note(f"first {os.getpid()}")
    while mark.with_name("hold").exists():
        time.sleep(0.05)


@asset(deps=[first])
def second(hindcast: HindcastResource) -> None:
    note(f"second {os.getpid()}")


definitions = Definitions(
    [first, second],
    jobs=[define_asset_job("both")],
    resources={"hindcast": HindcastResource()},
    executor=in_process_executor,
)
with DagsterInstance.get() as instance:
    note(f"begins {os.getpid()}")
    run_job(settings, instance, definitions, "both", {}, {})
"""


@pytest.fixture
def home(settings: Settings) -> Settings:
    prepare(settings)
    return settings


@pytest.fixture
def instance(home: Settings) -> Iterator[DagsterInstance]:
    with DagsterInstance.get() as made:
        yield made


class Runs:
    """Processes that run the small graph, and what their steps have written down."""

    def __init__(self, home: Settings, folder: Path) -> None:
        self.home, self.mark, self.script = home, folder / "mark", folder / "graph.py"
        self.script.write_text(GRAPH)
        self.hold = folder / "hold"

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.script), str(self.mark)],
            cwd=ROOT, env=os.environ | self.home.environment() | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def noted(self) -> list[str]:
        return self.mark.read_text().splitlines() if self.mark.exists() else []

    def wait_for(self, *words: str) -> None:
        while not all(any(line.startswith(word) for line in self.noted()) for word in words):
            time.sleep(0.05)


def statuses(instance: DagsterInstance) -> list[DagsterRunStatus]:
    return [record.dagster_run.status for record in instance.get_run_records()]


def test_runs_that_are_launched_together_take_turns(home: Settings, tmp_path: Path, instance: DagsterInstance) -> None:
    runs = Runs(home, tmp_path)
    processes = [runs.start() for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    steps = [line.split() for line in runs.noted() if not line.startswith("begins")]
    assert [name for name, _ in steps] == ["first", "second"] * 3
    assert all(steps[n][1] == steps[n + 1][1] for n in (0, 2, 4))  # both steps of a run, then the next run's
    assert statuses(instance) == [DagsterRunStatus.SUCCESS] * 3


def test_who_waits_says_for_whom(home: Settings, tmp_path: Path, instance: DagsterInstance) -> None:
    runs = Runs(home, tmp_path)
    runs.hold.touch()
    first = runs.start()
    runs.wait_for("first")
    (holder,) = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
    second = runs.start()
    assert second.stdout is not None
    for line in second.stdout:
        if "waiting for" in line:
            break
    assert f"waiting for run {holder.dagster_run.run_id} of job both" in line
    runs.hold.unlink()
    first.communicate()
    second.communicate()
    assert statuses(instance) == [DagsterRunStatus.SUCCESS] * 2


def test_a_killed_run_is_ended_by_the_next(home: Settings, tmp_path: Path, instance: DagsterInstance) -> None:
    runs = Runs(home, tmp_path)
    runs.hold.touch()
    killed = runs.start()
    runs.wait_for("first")
    waiting = runs.start()  # lives and hasn't had its turn: it must not be ended
    while len(list(home.run_locks.iterdir())) < 2:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    runs.hold.unlink()
    output = waiting.communicate()[0]
    assert waiting.returncode == 0, output
    assert sorted(status.value for status in statuses(instance)) == ["FAILURE", "SUCCESS"]
    assert list(home.run_locks.iterdir()) == []
    (failed,) = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
    messages = [entry.message for entry in instance.all_logs(failed.dagster_run.run_id)]
    assert any("was killed" in message for message in messages)


def test_a_run_that_is_being_launched_is_not_ended(home: Settings, instance: DagsterInstance) -> None:
    @asset
    def something() -> None: ...

    job = Definitions([something], jobs=[define_asset_job("job")]).resolve_job_def("job")
    launched = instance.create_run_for_job(job, status=DagsterRunStatus.STARTING)
    alive = instance.create_run_for_job(job, status=DagsterRunStatus.STARTED)
    origin = job_origin(home, "job")
    queued = instance.create_run_for_job(job, status=DagsterRunStatus.QUEUED, remote_job_origin=origin)
    mark_alive(home, alive.run_id)
    end_dead_runs(home, instance)
    found = [instance.get_run_by_id(run.run_id) for run in (launched, alive, queued)]
    assert [run.status.value for run in found if run] == ["STARTING", "STARTED", "QUEUED"]


def test_a_run_that_is_ended_while_it_waits_computes_nothing(
    home: Settings, tmp_path: Path, instance: DagsterInstance
) -> None:
    runs = Runs(home, tmp_path)
    with turn(home, instance, "a test", print):
        process = runs.start()
        assert process.stdout is not None
        assert any("waiting for a test" in line for line in process.stdout)
        (waiting,) = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        instance.report_run_canceled(waiting.dagster_run)
        process.communicate()
    assert [line.split()[0] for line in runs.noted()] == ["begins"]


def test_a_turn_within_a_turn_goes_on_at_once(home: Settings, instance: DagsterInstance) -> None:
    with turn(home, instance, "the pass", print) as taken, turn(home, instance, "its run", print) as again:
        assert (taken, again) == (True, False)
        assert home.turn_holder.read_text() == "the pass"
    assert not home.turn_holder.exists()


def test_the_ui_finds_a_run_by_its_job(home: Settings, instance: DagsterInstance) -> None:
    """By the origin of the code location in `workspace.yaml`: the UI's own queries ask for it."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_graphql.test.utils import execute_dagster_graphql

    @asset
    def something() -> None: ...

    definitions = Definitions([something], jobs=[define_asset_job("flights_ingest")], executor=in_process_executor)
    result = run_job(home, instance, definitions, "flights_ingest", {}, {})
    assert result.success
    query = """
        query ($repository: RepositorySelector!) {
          repositoryOrError(repositorySelector: $repository) {
            ... on Repository { pipelines { name runs { runId status } } }
          }
        }
    """
    where = {"repositoryName": "__repository__", "repositoryLocationName": "hindcast"}
    target = WorkspaceFileTarget([str(home.workspace_file)])
    with WorkspaceProcessContext(instance, target) as context:
        answer: Any = execute_dagster_graphql(context.create_request_context(), query, {"repository": where})
    jobs = {job["name"]: job["runs"] for job in answer.data["repositoryOrError"]["pipelines"]}
    assert jobs["flights_ingest"] == [{"runId": result.run_id, "status": "SUCCESS"}]
    assert jobs["flight_delay_train"] == []


def test_no_pool_holds_a_slot() -> None:
    """A killed or failed run would keep it."""
    from assets.definitions import build_definitions

    graph = build_definitions().resolve_asset_graph()
    pools = {pool for made in graph.assets_defs if made.is_executable for pool in made.node_def.pools}
    assert pools == set()


def test_two_processes_can_not_execute_one_run(home: Settings, tmp_path: Path) -> None:
    mark_alive(home, "r1")
    code = "from assets.turn import *; mark_alive(Settings.from_environment(), 'r1')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert HindcastError.__name__ in done.stderr


def test_the_home_of_a_test_is_the_childs(home: Settings) -> None:
    assert HindcastResource().problem("flight_delay").settings == home
