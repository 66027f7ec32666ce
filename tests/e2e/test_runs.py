"""What is done again and what isn't, in a home that was copied from a finished one: each copy is a home that moved."""

import json
import os
import shutil
import signal

import pytest

from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.e2e.conftest import World

PHASES = {
    "ingest what": "ingest",
    "clean, label": "build",
    "train, evaluate": "train",
    "build the bento": "publish",
    "serve real": "serve",
    "compute again": "monitor",
}
START_A_RETRAINING = """
import sys
from dagster import DagsterInstance
from assets.definitions import build_definitions
from assets.launch import run_job
from hindcast.settings import Settings

config = {"ops": {"flight_delay__windows": {"config": {"as_of": sys.argv[1]}}}, "loggers": {"console": {}}}
with DagsterInstance.get() as instance:
    result = run_job(Settings.from_environment(), instance, build_definitions(), "flight_delay_retrain", {}, config)
sys.exit(not result.success)
"""


def copy_of(world: World, finished: str, name: str) -> Settings:
    shutil.copytree(world.folder / finished, world.folder / name, symlinks=True)
    return Settings(world.root, world.folder / name)


def ran(output: str) -> list[str]:
    """The phases that weren't left out."""
    lines = [line.strip() for line in output.splitlines()]
    return [job for says, job in PHASES.items() if any(line.startswith(f"▸ {says}") for line in lines)]


def test_a_home_goes_on_where_it_was_moved_to(world: World, finished: str) -> None:
    """To a path of spaces, quotes and other letters, in another time zone and with another umask."""
    settings = copy_of(world, finished, 'it\'s "my" ho#me 100% ä日本; $x')
    before = world.status(finished)
    os.environ["TZ"] = "Pacific/Auckland"
    umask = os.umask(0o077)
    try:
        assert "nothing was computed again" in world.run(settings.home.name)
        assert world.status(settings.home.name) == before
        assert ran(world.run(settings.home.name, "--force")) == list(PHASES.values())
    finally:
        os.umask(umask)
    after = world.status(settings.home.name)
    same = ("rows", "champion", "requests", "logged", "labeled", "candidates")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    champion = json.loads(settings.champion_file.read_text())
    assert str(world.folder) not in json.dumps(champion)


@pytest.mark.parametrize(
    ("product", "again"),
    [
        ("feast/online.db", ["publish"]),
        ("bentoml/bentos", ["publish"]),
        ("problems/flight_delay/reports/monitoring.json", ["monitor"]),
        ("problems/flight_delay/candidates.joblib", ["train"]),
        ("problems/flight_delay/models", ["train"]),
        ("feast/registry.db", ["build"]),
    ],
)
def test_a_product_that_is_gone_is_made_again(world: World, finished: str, product: str, again: list[str]) -> None:
    settings = copy_of(world, finished, product.replace("/", "-"))
    gone = settings.home / product
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert ran(world.run(settings.home.name)) == again
    assert gone.exists()
    assert world.status(settings.home.name)["champion"]["version"] == world.status(finished)["champion"]["version"]
    assert ran(world.run(settings.home.name)) == []


def test_a_table_that_is_gone_is_made_again(world: World, finished: str) -> None:
    settings = copy_of(world, finished, "table-gone")
    lake = Lake(settings)
    with lake.writing() as connection:
        before = connection.execute("SELECT count(*) FROM features.origin_state").fetchall()
        connection.execute("DROP TABLE features.origin_state")
    assert ran(world.run(settings.home.name)) == ["build"]
    with lake.reading() as connection:
        assert connection.execute("SELECT count(*) FROM features.origin_state").fetchall() == before


def contents(settings: Settings) -> dict[str, object]:
    """Per table that training rests on, its rows whatever their order; and the champion's numbers."""
    found: dict[str, object] = {}
    with Lake(settings).reading() as connection:
        for table in ("control.windows", "split.flight_splits", "flight_delay.training_set"):
            found[table] = connection.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {table} AS t").fetchall()
    return found | {"challenger": json.loads(settings.challenger_file.read_text())}


def test_a_retraining_that_was_killed_is_brought_to_its_end(world: World, finished: str) -> None:
    """Whoever started it: what it had begun as of another instant isn't trained on as it is."""
    as_of = "2013-03-02T00:00:00+00:00"
    whole, torn = copy_of(world, finished, "retrained"), copy_of(world, finished, "torn")
    process = world.start(whole.home.name, "-c", START_A_RETRAINING, as_of)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    process = world.start(torn.home.name, "-c", START_A_RETRAINING, as_of)
    assert process.stdout is not None
    assert any("✓ flight_delay/windows" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    output = world.run(torn.home.name)
    assert ran(output)[:2] == ["build", "train"]
    assert contents(torn) == contents(whole)


def test_two_retrainings_at_once_give_the_same_as_one_after_the_other(world: World, finished: str) -> None:
    instants = ("2013-03-01T12:00:00+00:00", "2013-03-02T00:00:00+00:00")
    together = copy_of(world, finished, "together")
    both = [world.start(together.home.name, "-c", START_A_RETRAINING, instant) for instant in instants]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("waiting for" in output for output in outputs) == 1
    first_waited = "waiting for" in outputs[0]
    one_by_one = copy_of(world, finished, "one-by-one")
    for instant in reversed(instants) if first_waited else instants:
        process = world.start(one_by_one.home.name, "-c", START_A_RETRAINING, instant)
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert contents(together) == contents(one_by_one)
