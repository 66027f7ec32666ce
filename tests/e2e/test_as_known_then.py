"""As known then, on six weeks of the real flights: the future changes nothing, and plain Python finds the same.

The first test builds all tables as of an instant, and again later from data in which everything that became known
after that instant was changed. The second recomputes flights' features from the raw rows known at their prediction
time, written differently from the SQL: no running sums, no grids but the instants at which they stand.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

import duckdb
import polars as pl
import pytest

from hindcast.lake import Lake
from hindcast.problem import Problem, Splits, Window, load_problem
from hindcast.settings import Settings
from hindcast.sources import load_sources
from hindcast.tables.ingest import ingest
from hindcast.tables.transform import build
from tests.brute_force import brute_force, flight_id, plausible_planes, raw_flights, unequal
from tests.conftest import ROOT
from tests.control import names_of, write_control

THEN = datetime(2013, 2, 10, 14, 10, tzinfo=UTC)  # the morning after a blizzard: much is overdue, much cancelled
LATER = datetime(2013, 2, 14, tzinfo=UTC)
SPLITS = Splits(
    train=Window(start="-5 weeks", end="-2 weeks"),
    validation=Window(start="-2 weeks", end="-1 weeks"),
    test=Window(start="-1 weeks", end="0 weeks"),
)
FEATURES = {  # table -> keys
    "flight_schedule": ["flight_id"],
    "aircraft_profile": ["tail_number"],
    "origin_weather": ["origin"],
    "origin_state": ["origin"],
    "carrier_outcomes": ["carrier"],
    "origin_carrier_outcomes": ["origin", "carrier"],
    "destination_outcomes": ["destination"],
    "route_outcomes": ["origin", "destination"],
    "flight_number_outcomes": ["carrier", "flight_number"],
    "aircraft_state": ["tail_number"],
}


@dataclass
class World:
    """One home with raw tables as of an instant."""

    lake: Lake
    problem: Problem

    def build(self, known_until: datetime) -> None:
        write_control(self.lake, self.problem, known_until=known_until, as_of=THEN)
        results = build(self.lake.settings, names_of(self.lake.settings, "flights", "model", "seed"))
        assert [result for result in results if result.failed] == []

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.lake.reading() as connection:
            yield connection

    def rows(self, sql: str) -> pl.DataFrame:
        with self.lake.reading() as connection:
            return connection.execute(sql).pl()


def raw_world(settings: Settings, now: datetime) -> World:
    problem = load_problem(settings.problem_file).model_copy(update={"splits": SPLITS})
    sources = load_sources(settings.sources_file(problem.domain))
    lake = Lake(settings)
    for name, table in sources.tables.items():
        months = [date(2013, 1, 1), date(2013, 2, 1)] if table.month else None
        ingest(lake, sources, name, now, settings, months)
    return World(lake, problem)


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Everything as it was known then."""
    world = raw_world(Settings(ROOT, tmp_path_factory.mktemp("then")), THEN)
    world.build(THEN)
    return world


@pytest.fixture(scope="module")
def other_future(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same past, and a future in which nothing came as it did."""
    world = raw_world(Settings(ROOT, tmp_path_factory.mktemp("later")), LATER)
    change_the_future(world.lake)
    world.build(LATER)
    return world


def change_the_future(lake: Lake) -> None:
    """Changes every raw value that became known after THEN; what takes its place is known after THEN too."""
    then = f"TIMESTAMP '{THEN.replace(tzinfo=None)}'"
    with lake.writing() as connection:
        changed = connection.execute(
            f"""
            SELECT
                count(*) FILTER (_departure_known_at > {then}),
                count(*) FILTER (_arrival_known_at > {then}),
                count(*) FILTER (_departure_known_at IS NULL AND time_hour < {then}),
                count(*) FILTER (_known_at > {then})
            FROM raw.flights
            """
        ).fetchall()[0]
        assert min(changed) > 300, changed
        # Departures and arrivals come at another time, not at all, or after all; each after THEN. Of one that never
        # arrived, the schedule's instant isn't at hand: counted from its departure's hour, the delay is long enough.
        for scheduled, known, delay, clock in (
            ("time_hour + to_minutes(minute)", "_departure_known_at", "dep_delay", "dep_time"),
            (
                "coalesce(_arrival_known_at - to_minutes(arr_delay), time_hour)",
                "_arrival_known_at",
                "arr_delay",
                "arr_time",
            ),
        ):
            until_then = f"CAST(ceil(epoch({then} - ({scheduled})) / 60) AS INTEGER)"
            late = f"greatest({until_then}, -10) + CAST(1 + 9 * (hash(flight, tailnum, time_hour) % 97) AS INTEGER)"
            comes = "hash(time_hour, flight) % 3 > 0"
            connection.execute(
                f"""
                UPDATE raw.flights SET
                    {delay} = CASE WHEN {comes} THEN {late} END,
                    {clock} = CASE WHEN {comes} THEN 1200 END,
                    {known} = CASE WHEN {comes} THEN ({scheduled}) + to_minutes({late}) END
                WHERE {known} > {then} OR {known} IS NULL
                """
            )
        # Schedules that weren't published yet are others, or none.
        connection.execute(f"DELETE FROM raw.flights WHERE _known_at > {then} AND flight % 2 = 0")
        connection.execute(
            f"UPDATE raw.flights SET carrier = 'OO', dest = 'ANC', tailnum = 'N' || flight, distance = 5 "
            f"WHERE _known_at > {then} AND flight % 3 = 0"
        )
        connection.execute(f"DELETE FROM raw.weather WHERE _known_at > {then} AND hour % 4 = 0")
        connection.execute(
            "UPDATE raw.weather SET temp = -temp, dewp = 0, humid = 1, wind_dir = 1, wind_speed = 99, "
            f"wind_gust = 120, precip = 9, pressure = 900, visib = 0 WHERE _known_at > {then}"
        )


def differences(then: World, later: World, table: str, where: str) -> tuple[int, list[tuple]]:
    """Rows as of then, and up to three of those that only one of both worlds holds."""
    ours = then.rows(f"FROM {table}")
    theirs = later.rows(f"FROM {table} WHERE {where}")
    with duckdb.connect() as connection:
        connection.register("ours", ours)
        connection.register("theirs", theirs)
        odd = connection.execute(
            "SELECT * FROM ((FROM ours EXCEPT ALL FROM theirs) UNION ALL (FROM theirs EXCEPT ALL FROM ours)) LIMIT 3"
        ).fetchall()
    return len(ours), odd


@pytest.mark.parametrize("table", FEATURES)
def test_the_future_changes_no_feature(then: World, other_future: World, table: str) -> None:
    known = f"event_timestamp <= TIMESTAMP '{THEN.replace(tzinfo=None)}'"
    rows, odd = differences(then, other_future, f"features.{table}", known)
    assert rows > 1000
    assert odd == []


def test_the_future_changes_no_label_and_no_split(then: World, other_future: World) -> None:
    known = f"label_known_at <= TIMESTAMP '{THEN.replace(tzinfo=None)}'"
    labels = "(SELECT * FROM labeled.flight_outcomes WHERE label_known_at IS NOT NULL)"
    rows, odd = differences(then, other_future, labels, known)
    assert rows > 30_000
    assert odd == []
    rows, odd = differences(then, other_future, "split.flight_splits", "true")
    assert rows > 25_000
    assert odd == []


def test_the_other_future_is_another(then: World, other_future: World) -> None:
    """The tests above would hold of an unchanged future too: this one would not."""
    late = "SELECT avg(is_late) FROM labeled.flight_outcomes WHERE label_known_at > TIMESTAMP '2013-02-11'"
    assert other_future.rows(late).item() > 0.6


def as_of_read(world: World, flight_ids: list[str]) -> dict[str, dict]:
    """Each flight's newest row of every feature table that was known at its prediction time."""
    found: dict[str, dict] = {flight_id: {} for flight_id in flight_ids}
    with world.reading() as connection:
        for table, keys in FEATURES.items():
            match = " AND ".join(f'feature."{key}" = flight."{key}"' for key in keys)
            rows = connection.execute(
                f"SELECT flight.flight_id AS asked, feature.* EXCLUDE ({', '.join(keys)}, event_timestamp) "
                f"FROM labeled.flight_outcomes AS flight ASOF LEFT JOIN features.{table} AS feature "
                f"ON {match} AND flight.prediction_time >= feature.event_timestamp "
                "WHERE list_contains(?, flight.flight_id)",
                [flight_ids],
            ).pl()
            for row in rows.iter_rows(named=True):
                found[row.pop("asked")] |= row
    return found


def test_plain_python_finds_the_same_features(then: World) -> None:
    flights, weather = raw_flights(then.lake), then.rows("FROM raw.weather")
    planes = plausible_planes(then.lake)
    asked = flights.filter(pl.col("departs") - pl.duration(hours=2) <= THEN.replace(tzinfo=None)).sort(
        "departs", "flight"
    )
    chosen = [asked.row(index, named=True) for index in random.Random(13).sample(range(len(asked)), 50)]
    ids = [flight_id(flight) for flight in chosen]
    found = as_of_read(then, ids)
    wrong = []
    for key, flight in zip(ids, chosen, strict=True):
        expected = brute_force(flight, flights, weather, planes)
        assert set(expected) == set(found[key])
        wrong += [(key, *fault) for fault in unequal(found[key], expected)]
    assert wrong == []
