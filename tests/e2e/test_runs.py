"""What is done again and what isn't, in a home that was copied from a finished one: each copy is a home that moved."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.e2e.conftest import ODD_NAME, World
from tests.patience import lines_of, output_of

EARLIER, AS_OF = "2013-03-01T12:00:00+00:00", "2013-03-02T00:00:00+00:00"
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
    """Its parts too, of which one is made again."""
    settings = copy_of(world, finished, "moved " + ODD_NAME)
    before = world.status(finished)
    assert "nothing was computed again" in world.run(settings.home.name)
    assert world.status(settings.home.name) == before
    (settings.reports / "monitoring.json").unlink()
    assert ran(world.run(settings.home.name)) == ["monitor"]
    assert world.status(settings.home.name)["report"] == before["report"]
    assert str(world.folder) not in settings.champion_file.read_text()


PRODUCTS = {
    "feast/registry.db": "build",
    "problems/flight_delay/candidates.joblib": "train",
    "problems/flight_delay/models": "train",
    "feast/online.db": "publish",
    "bentoml/bentos": "publish",
    "problems/flight_delay/reports/monitoring.json": "monitor",
}
TO_DO = """
import json
import sys
from dagster import DagsterInstance
from assets.definitions import definitions
from assets.run import Pass
from hindcast.settings import Settings
from hindcast.workspace import load_catalogue

settings = Settings.from_environment()
aside = settings.home / "aside"
found = {}
with DagsterInstance.get() as instance:
    for product in sys.argv[1:]:
        (settings.home / product).rename(aside)
        catalogue = load_catalogue(settings)
        work = Pass(catalogue.workspaces[settings.problem], catalogue, instance, definitions, False)
        jobs = ("build", "train", "publish", "serve", "monitor")
        found[product] = [job for job in jobs if work._to_do(f"flight_delay_{job}")[2]]
        aside.rename(settings.home / product)
print(json.dumps(found))
"""


def test_a_product_that_is_gone_is_made_again(world: World, finished: str) -> None:
    """Each product's absence asks for its own phase alone; all come back, and the champion stays."""
    settings = copy_of(world, finished, "products-gone")
    process = world.start(settings.home.name, "-c", TO_DO, *PRODUCTS)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert json.loads(output.splitlines()[-1]) == {product: [phase] for product, phase in PRODUCTS.items()}
    for product in PRODUCTS:
        gone = settings.home / product
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    # Packages that are made again name another snapshot of the lake, so that the bento is another and is asked.
    assert ran(world.run(settings.home.name)) == ["build", "train", "publish", "serve", "monitor"]
    assert all((settings.home / product).exists() for product in PRODUCTS)
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


def start_retraining(world: World, home: Settings, as_of: str) -> subprocess.Popen[str]:
    """Starts a retraining, and comes back once its windows are written."""
    process = world.start(home.home.name, "-c", START_A_RETRAINING, as_of)
    assert any("✓ flight_delay/windows" in line for line in lines_of(process))
    return process


@pytest.fixture(scope="module")
def retrained(world: World, finished: str) -> Settings:
    """A home that was retrained, undisturbed, as of `EARLIER` and then as of `AS_OF`."""
    home = copy_of(world, finished, "retrained")
    for as_of in (EARLIER, AS_OF):
        process = world.start(home.home.name, "-c", START_A_RETRAINING, as_of)
        output = output_of(process)
        assert process.returncode == 0, output
    return home


def test_a_retraining_that_was_killed_is_brought_to_its_end(world: World, finished: str, retrained: Settings) -> None:
    """Whoever started it: what it had begun as of another instant isn't trained on as it is."""
    torn = copy_of(world, finished, "torn")
    process = start_retraining(world, torn, AS_OF)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    output = world.run(torn.home.name)
    assert ran(output)[:2] == ["build", "train"]
    assert contents(torn) == contents(retrained)


def test_two_retrainings_at_once_give_the_same_as_one_after_the_other(
    world: World, finished: str, retrained: Settings
) -> None:
    """The second begins once the first has written its windows, so that which one waits isn't chance."""
    together = copy_of(world, finished, "together")
    first = start_retraining(world, together, EARLIER)
    second = world.start(together.home.name, "-c", START_A_RETRAINING, AS_OF)
    outputs = [output_of(process) for process in (second, first)]
    assert [process.returncode for process in (second, first)] == [0, 0], outputs
    assert ["waiting for" in output for output in outputs] == [True, False]
    assert contents(together) == contents(retrained)
