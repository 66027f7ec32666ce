"""Runs that are killed (`kill -9` of all their processes) at a random moment, each followed by `hindcast run`: the same
tables, the same champion as undisturbed, and no hang. Half of them are started by the command line, which moves the
clock on by a day, half by the UI's daemon, which retrains as of a day later.

In the small world of the end-to-end tests (two months of the real flights), from a home in which the main job has run;
six kills a round. Bars: no difference, and no run that takes longer than ten times what it takes undisturbed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import httpx

from bench.measure import Row, say
from hindcast.lake import Lake, version_of
from hindcast.serving.server import free_port
from hindcast.settings import Settings
from tests.e2e.conftest import World

KILLS_PER_ROUND = 6
SCHEMAS = ("raw", "control", "cleaned", "labeled", "split", "features", "flight_delay")
NOT_CONTENT = ("held",)  # what was done when
MEASURED = "received_at, latency_ms"  # when a request came in, and how long it took
ON = ["-m", "assets.run", "--until", "2013-03-03T12:00:00+00:00"]
AS_OF = "2013-03-02T00:00:00+00:00"
_LAUNCH = """
mutation ($parameters: ExecutionParams!) {
  launchPipelineExecution(executionParams: $parameters) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
_STATUS = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"


def run(settings: Settings, rounds: int) -> list[Row]:
    folder = settings.benchmarks / "kills"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world, chance = World(folder), random.Random(13)
    say("the home before")
    world.run("before")
    rows = []
    for who, start in (("the command line", start_command), ("the UI's daemon", start_daemon)):
        say(f"undisturbed, by {who}")
        began = time.monotonic()
        process = start(world, copied(world, "undisturbed"))
        process(None)
        took = time.monotonic() - began
        finished(world, "undisturbed", None)
        wanted = contents(world, "undisturbed")
        different, hung, kills = 0, 0, rounds * KILLS_PER_ROUND // 2
        for number in range(kills):
            moment = chance.uniform(0, took)
            say(f"{number + 1} of {kills} by {who}, after {moment:.0f} s")
            start(world, copied(world, "killed"))(moment)
            if not finished(world, "killed", 10 * took + 60):
                hung += 1
            elif changed := [name for name, value in contents(world, "killed").items() if wanted.get(name) != value]:
                say(f"different: {', '.join(changed)}")
                different += 1
        rows += [
            Row(f"{kills} kills of a run by {who}: other tables or champion", "", different, 0, "limit", at_most=1),
            Row(f"{kills} kills of a run by {who}: hangs or failures", "", hung, 0, "limit", at_most=1),
        ]
    return rows


def copied(world: World, name: str) -> str:
    shutil.rmtree(world.folder / name, ignore_errors=True)
    shutil.copytree(world.folder / "before", world.folder / name, symlinks=True)
    return name


def start_command(world: World, home: str) -> Callable[[float | None], None]:
    """Starts the main job; what it gives waits so many seconds and kills, or waits for the end."""
    process = drained(world.start(home, *ON))
    return lambda seconds: end(process, seconds)


def start_daemon(world: World, home: str) -> Callable[[float | None], None]:
    """Starts the UI with its daemon, and has it launch a retraining."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/graphql"
    process = drained(world.start(home, "-c", "from hindcast.cli import main; main()", "ui", "--port", str(port)))
    deadline = time.monotonic() + 120
    parameters = {
        "selector": {
            "repositoryLocationName": "hindcast",
            "repositoryName": "__repository__",
            "pipelineName": "flight_delay_retrain",
        },
        "runConfigData": {"ops": {"flight_delay__windows": {"config": {"as_of": AS_OF}}}},
    }

    def ask(query: str, **variables: object) -> dict[str, dict[str, object]]:
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60, trust_env=False)
        return dict(answer.raise_for_status().json()["data"])

    while True:
        try:
            launched = ask(_LAUNCH, parameters=parameters)["launchPipelineExecution"]
            break
        except httpx.TransportError as error:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("The Dagster UI doesn't answer.") from error
            time.sleep(0.5)
    if "run" not in launched:
        raise RuntimeError(f"The daemon launched nothing: {launched}.")

    def wait(seconds: float | None) -> None:
        if seconds is None:
            run_id = dict(launched["run"])["runId"]  # type: ignore[call-overload]
            while ask(_STATUS, run=run_id)["runOrError"]["status"] not in ("SUCCESS", "FAILURE"):
                time.sleep(0.5)
        end(process, seconds or 0.0)

    return wait


def drained(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """The process, whose output is read and forgotten: it would stop once nobody takes it."""
    threading.Thread(target=lambda: deque(process.stdout or (), maxlen=0), daemon=True).start()
    return process


def end(process: subprocess.Popen[str], seconds: float | None) -> None:
    """Waits for the process's end, or so long and then kills its whole group."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finished(world: World, home: str, within: float | None) -> bool:
    """Runs the main job; False where it fails or isn't done in time."""
    process = world.start(home, *ON)
    try:
        output, _ = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        print(output[-3000:], file=sys.stderr)
    return process.returncode == 0


def contents(world: World, home: str) -> dict[str, object]:
    """Per table a version of its rows, and the champion's version."""
    settings = Settings(world.root, Path(world.folder, home))
    found: dict[str, object] = {"champion": json.loads(settings.champion_file.read_text())["version"]}
    with Lake(settings).reading() as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'lake' ORDER BY ALL"
        ).fetchall()
        for schema, name in tables:
            if schema in SCHEMAS and name not in NOT_CONTENT:
                found[f"{schema}.{name}"] = version_of(connection, f'FROM "{schema}"."{name}"')
        found["flight_delay.requests"] = version_of(connection, "SELECT id FROM flight_delay.requests")
        found["flight_delay.labeled_requests"] = version_of(
            connection, f"SELECT * EXCLUDE ({MEASURED}) FROM flight_delay.labeled_requests"
        )
    return found
