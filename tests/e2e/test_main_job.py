"""The main job as a user meets it: once, again, killed half way, beside others."""

import json
import os
import signal
import time

from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.e2e.conftest import World


def same_in_every_run(status: dict) -> dict:
    """What must not depend on when, where or how often a pass was interrupted."""
    champion = status["champion"]["version"]
    return {
        key: status[key] for key in ("rows", "rejected", "rules", "candidates", "baselines", "requests", "logged")
    } | {"champion": champion}


def test_the_whole_chain_is_real(world: World, finished: str) -> None:
    status = world.status(finished)
    assert status["problem"] == "flight_delay"
    assert status["as_of"] == "2013-03-01T00:00:00Z"
    assert status["now"] == "2013-03-02T12:00:00+00:00"
    assert set(status["rows"]["raw"]) == {"airlines", "airports", "flights", "planes", "weather"}
    assert status["rows"]["raw"]["airports"] == 1458  # every line of the file but its header
    assert min(status["rows"]["split"].values()) > 8_000
    assert {candidate["name"] for candidate in status["candidates"]} == {"logistic_regression", "gradient_boosting"}
    assert all(0.55 < candidate["test"]["roc_auc"] < 0.82 for candidate in status["candidates"])
    assert status["gate"]["promoted"]
    assert all(check["holds"] for check in status["gate"]["checks"])
    assert status["requests"] == status["logged"] > 800
    assert 0 < status["labeled"] <= status["logged"]
    assert status["report"]["status"] in {"ok", "alarm"}
    assert set(status["stages"]) >= {"raw", "cleaned", "labeled", "split", "features", "train", "evaluate", "package"}


def test_again_at_once_computes_nothing(world: World, finished: str) -> None:
    before = world.status(finished)
    output = world.run(finished)
    assert "nothing was computed again" in output
    after = world.status(finished)
    assert after == before


def test_killed_and_restarted_equals_undisturbed(world: World, finished: str) -> None:
    """Killed once while tables are made and once while requests are served; each time started again."""
    for moment in ("✓ raw/flights", "real requests"):
        process = world.start("killed", "-m", "assets.run")
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        else:
            raise AssertionError(f"never came to {moment!r}")
        time.sleep(2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    world.run("killed")
    assert same_in_every_run(world.status("killed")) == same_in_every_run(world.status(finished))
    assert training_set_hash(world, "killed") == training_set_hash(world, finished)


def training_set_hash(world: World, home: str) -> str:
    lake = Lake(Settings(world.root, world.folder / home))
    with lake.reading() as connection:
        return connection.execute(
            "SELECT md5(string_agg(row_text, chr(10) ORDER BY row_text)) "
            "FROM (SELECT CAST(t AS VARCHAR) AS row_text FROM train.training_set t)"
        ).fetchall()[0][0]


def test_nothing_that_training_read_lies_after_the_as_of_instant(world: World, finished: str) -> None:
    lake = Lake(Settings(world.root, world.folder / finished))
    with lake.reading() as connection:
        latest = connection.execute(
            "SELECT max(prediction_time), max(label_known_at) FROM train.training_set"
        ).fetchall()[0]
    assert all(instant.isoformat() <= "2013-03-01T00:00:00" for instant in latest)


def test_two_passes_and_an_open_reader_share_a_home(world: World, finished: str) -> None:
    lake = Lake(Settings(world.root, world.folder / finished))
    with lake.reading() as connection:
        rows = connection.execute("SELECT count(*) FROM raw.flights").fetchall()
        both = [world.start(finished, "-m", "assets.run") for _ in range(2)]
        outputs = [process.communicate(timeout=200)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        assert connection.execute("SELECT count(*) FROM raw.flights").fetchall() == rows


def test_status_of_an_empty_home_is_an_answer_too(world: World) -> None:
    status = json.loads(world.hindcast("empty", "status", "--json"))
    assert status["snapshot"] is None
    assert status["champion"] is None
