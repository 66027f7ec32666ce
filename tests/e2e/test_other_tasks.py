"""Each task from raw files to answered requests and a report: the flights' other two problems, and dengue."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from hindcast.lake import Lake
from hindcast.serving.server import champion_tag, running
from hindcast.settings import Settings
from tests.e2e.conftest import ROOT, World
from tests.patience import SILENCE

JUDGED = {"ok", "alarm"}


def run(world: World, home: str, problem: str) -> dict[str, Any]:
    """Lets a problem's main job run; its status afterwards."""
    process = world.start(home, "-m", "assets.run", problem=problem)
    output, _ = process.communicate()
    assert process.returncode == 0, output[-4000:]
    return json.loads(world.hindcast(home, "status", problem, "--json"))


def holds_together(status: dict[str, Any], reported: set[str]) -> None:
    """What must hold of every problem that has run; `reported` are the verdicts that its report may give."""
    assert status["gate"]["promoted"], status["gate"]
    assert status["requests"] == status["logged"] > 100
    assert status["parity"]["status"] == "ok", status["parity"]["summary"]
    assert status["parity"]["skew"]["cells"] == 0 < status["parity"]["cells"]
    assert status["report"]["status"] in reported, status["report"]["summary"]
    assert status["report"]["drift"]["share"] is not None, status["report"]["summary"]
    chosen = next(each for each in status["candidates"] if each["chosen"])
    primary = status["report"]["performance"]["metric"]
    assert 0 < chosen["test"][primary] < status["baselines"][next(iter(status["baselines"]))]["test"][primary]


def ask(settings: Settings) -> dict[str, Any]:
    """The answer to the service's own example, with its explanation."""
    with running(settings, champion_tag(settings)) as url, httpx.Client(trust_env=False, timeout=SILENCE) as client:
        form = client.get(f"{url}/docs.json").json()["components"]["schemas"]["Request"]["properties"]
        example = {name: each["examples"][0] for name, each in form.items() if each.get("examples")}
        response = client.post(f"{url}/explain", json=example)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory, world: World, finished: str) -> tuple[World, str]:
    home = f"tasks-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    shutil.copytree(world.folder / finished, world.folder / home, symlinks=True)
    return world, home


def test_minutes_of_delay_with_an_interval(flights: tuple[World, str]) -> None:
    world, home = flights
    status = run(world, home, "arrival_delay")
    holds_together(status, JUDGED)
    assert status["report"]["performance"]["realised"] > 0
    chosen = next(each for each in status["candidates"] if each["chosen"])
    assert 0.6 < chosen["test"]["coverage"] < 0.95  # promised on one fortnight of winter, kept on another
    settings = Settings(world.root, world.folder / home, "arrival_delay")
    answer = ask(settings)
    assert answer["lower"] < answer["value"] < answer["upper"] and answer["coverage"] == 0.8
    told = sum(each["contribution"] for each in answer["contributions"])
    assert answer["base"] + told == pytest.approx(answer["value"], rel=1e-3, abs=1e-2)
    with Lake(settings).reading() as connection:
        rows = connection.execute(
            "SELECT count(*), count(*) FILTER (len(prediction) = 3 AND decision IS NULL) FROM arrival_delay.requests"
        ).fetchall()
    assert rows[0][0] == rows[0][1] > 100


def test_how_a_flight_ends_with_a_probability_of_each(flights: tuple[World, str]) -> None:
    world, home = flights
    # Of a day and a half no label has matured, which takes 40 hours: performance isn't judged, and no alarm is due.
    holds_together(run(world, home, "flight_outcome"), {"not enough data"})
    settings = Settings(world.root, world.folder / home, "flight_outcome")
    answer = ask(settings)
    assert set(answer["probabilities"]) == {"on_time", "late", "cancelled_or_diverted"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["decision"] == max(answer["probabilities"], key=answer["probabilities"].__getitem__)
    assert set(answer["base"]) == set(answer["probabilities"])
    with Lake(settings).reading() as connection:
        decided = connection.execute("SELECT DISTINCT decision FROM flight_outcome.requests").fetchall()
    assert {each for (each,) in decided} <= set(answer["probabilities"])


def test_dengue_counts_what_is_known_and_says_how_sure_it_is(tmp_path: Path) -> None:
    world = World.__new__(World)
    world.root, world.folder = ROOT, tmp_path
    status = run(world, "home", "dengue")
    holds_together(status, JUDGED)
    assert status["now"].startswith("2023-10-09")
    answer = ask(Settings(ROOT, tmp_path / "home", "dengue"))
    assert 0 <= answer["lower"] <= answer["value"] <= answer["upper"]
