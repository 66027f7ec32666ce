"""A problem that lives by the wall clock: each run of a day brings in, labels, scores and reports what has come."""

import os
import shutil
import signal
from datetime import datetime
from typing import Any

import pytest
import yaml

from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.e2e.conftest import ROOT, World
from tests.e2e.test_runs import ran
from tests.patience import lines_of, output_of
from tests.tides import HARBOURS, add_tides

# The machine's clock, as the data's year has it.
RUN_AT = """
import sys
from datetime import datetime
from hindcast.clock import WallClock

instant = datetime.fromisoformat(sys.argv.pop())
WallClock.now = lambda self: instant
from assets.run import main

sys.exit(main())
"""


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tides, read at midnight and at noon, as they come."""
    world = World(tmp_path_factory.mktemp("live"))
    for name in ("dbt_project", "feature_repo"):
        (world.root / name).unlink()
        shutil.copytree(ROOT / name, world.root / name)
    add_tides(world.root)
    file = world.root / "problems" / "sources" / "tides.yaml"
    sources = yaml.safe_load(file.read_text())
    del sources["clock"]
    file.write_text(yaml.safe_dump(sources, sort_keys=False))
    return world


def test_a_second_run_on_the_same_day_picks_up_what_has_come(live: World) -> None:
    lake = Lake(Settings(live.root, live.folder / "home", "high_tide"))

    def found(sql: str) -> list[Any]:
        with lake.reading() as connection:
            return [value for (value,) in connection.execute(sql).fetchall()]

    def run_at(instant: str) -> list[str]:
        process = live.start("home", "-c", RUN_AT, instant, problem="high_tide")
        output = output_of(process)
        assert process.returncode == 0, output[-4000:]
        return ran(output)

    as_of = "SELECT DISTINCT as_of FROM control.windows WHERE problem = 'high_tide'"
    floods, scored = (
        "SELECT count(flooded) FROM labeled.harbour_floods",
        "SELECT count(*) FROM high_tide.batch_predictions",
    )
    assert run_at("2024-04-20T11:00:00+00:00") == ["ingest", "build", "train", "publish", "serve", "monitor"]
    morning, trained = (found(floods)[0], found(scored)[0]), live.status("home")["champion"]
    assert found(as_of) == [datetime(2024, 4, 20)]  # the day's midnight
    assert run_at("2024-04-20T13:00:00+00:00") == ["ingest", "build", "publish", "serve", "monitor"]
    assert (found(floods)[0], found(scored)[0]) == tuple(count + len(HARBOURS) for count in morning)
    assert found(as_of) == [datetime(2024, 4, 20)]
    assert found('SELECT DISTINCT "at" FROM control.instants') == [datetime(2024, 4, 20, 13)]  # of tables and label
    assert live.status("home")["champion"] == trained
    tomorrow = live.start("home", "-c", RUN_AT, "2024-04-21T09:00:00+00:00", problem="high_tide")
    lines = []
    for line in lines_of(tomorrow):  # what training gives, the first run has shown: that it begins is enough
        lines.append(line)
        if "▸ train" in line:
            break
    os.killpg(tomorrow.pid, signal.SIGKILL)
    tomorrow.wait()
    assert ran("".join(lines)) == ["ingest", "build", "train"]
    assert found(as_of) == [datetime(2024, 4, 21)]  # that day's midnight: the model is made anew
