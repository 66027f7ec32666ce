"""A problem that lives by the wall clock: each run of a day brings in, labels, scores and reports what has come."""

import os
import signal
from datetime import datetime

import pytest
import yaml

from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.e2e.conftest import World
from tests.e2e.test_runs import ran
from tests.patience import lines_of, output_of

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
    world = World(tmp_path_factory.mktemp("live"))
    file = world.root / "problems" / "sources" / "flights.yaml"
    sources = yaml.safe_load(file.read_text())
    del sources["clock"]
    file.write_text(yaml.safe_dump(sources, sort_keys=False))
    return world


def run_at(world: World, instant: str) -> list[str]:
    process = world.start("home", "-c", RUN_AT, instant)
    output = output_of(process)
    assert process.returncode == 0, output[-4000:]
    return ran(output)


def test_a_second_run_on_the_same_day_picks_up_what_has_come(live: World) -> None:
    lake = Lake(Settings(live.root, live.folder / "home"))

    def arrived() -> int:
        """Flights of the day whose outcome is known."""
        sql = "SELECT count(is_late) FROM labeled.flight_outcomes WHERE prediction_time >= TIMESTAMP '2013-03-01'"
        with lake.reading() as connection:
            return connection.execute(sql).fetchall()[0][0]

    def scored() -> int:
        with lake.reading() as connection:
            return connection.execute("SELECT count(*) FROM flight_delay.batch_predictions").fetchall()[0][0]

    def as_of() -> list[datetime]:
        with lake.reading() as connection:
            return [row[0] for row in connection.execute("SELECT DISTINCT as_of FROM control.windows").fetchall()]

    def instants() -> dict[str, datetime]:
        with lake.reading() as connection:
            return dict(connection.execute('SELECT name, "at" FROM control.instants').fetchall())

    assert run_at(live, "2013-03-01T15:00:00+00:00") == ["ingest", "build", "train", "publish", "serve", "monitor"]
    morning, scored_then, trained = arrived(), scored(), live.status("home")["champion"]
    assert as_of() == [datetime(2013, 3, 1)]  # the day's midnight
    assert run_at(live, "2013-03-01T22:00:00+00:00") == ["ingest", "build", "publish", "serve", "monitor"]
    assert arrived() > morning + 200
    assert scored() > scored_then
    assert as_of() == [datetime(2013, 3, 1)]
    assert set(instants().values()) == {datetime(2013, 3, 1, 22)}  # of each raw table, and of the label
    assert live.status("home")["champion"] == trained
    tomorrow = live.start("home", "-c", RUN_AT, "2013-03-02T09:00:00+00:00")
    lines = []
    for line in lines_of(tomorrow):  # what training gives, the first run has shown: that it begins is enough
        lines.append(line)
        if "▸ train" in line:
            break
    os.killpg(tomorrow.pid, signal.SIGKILL)
    tomorrow.wait()
    assert ran("".join(lines)) == ["ingest", "build", "train"]
    assert as_of() == [datetime(2013, 3, 2)]  # that day's midnight: the model is made anew
