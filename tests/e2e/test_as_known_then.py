"""As known then, on six weeks of the real flights: the future changes nothing, and plain Python finds the same.

The first test builds all tables as of an instant, and again later from data in which everything that became known
after that instant was changed. The second recomputes flights' features from the raw rows known at their prediction
time, written differently from the SQL: no running sums, no grids but the instants at which they stand.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest

from hindcast.control import write_control
from hindcast.ingest import ingest
from hindcast.lake import Lake
from hindcast.problem import Problem, Splits, Window, load_problem
from hindcast.settings import Settings
from hindcast.sources import load_sources
from hindcast.transform import build
from tests.conftest import ROOT

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
        results = build(self.lake.settings, ["resource_type:seed", "resource_type:model"])
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
    sources = load_sources(settings.sources_folder / f"{problem.sources}.yaml")
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


# --- by brute force ---------------------------------------------------------------------------------------------------

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEW_YORK, PUERTO_RICO = ZoneInfo("America/New_York"), ZoneInfo("America/Puerto_Rico")
HOLIDAYS = [date(2013, 1, 1), date(2013, 1, 21), date(2013, 2, 18)]


def raw_flights(world: World) -> pl.DataFrame:
    """The raw flights with their instants, by Python's own calendar."""
    zones = dict(world.rows("SELECT faa, tzone FROM raw.airports").iter_rows())
    flights = world.rows("FROM raw.flights")
    scheduled, arrivals = [], []
    for row in flights.select("time_hour", "minute", "sched_arr_time", "dest").iter_rows(named=True):
        departs = (row["time_hour"] + timedelta(minutes=row["minute"])).replace(tzinfo=UTC)
        zone = ZoneInfo(zones[row["dest"]]) if row["dest"] in zones else PUERTO_RICO
        hour, minute = divmod(row["sched_arr_time"], 100)
        arrives = departs.astimezone(zone).replace(hour=hour % 24, minute=minute)
        while arrives <= departs:
            arrives += DAY
        scheduled.append(departs.replace(tzinfo=None))
        arrivals.append(arrives.astimezone(UTC).replace(tzinfo=None))
    minutes = pl.duration
    return flights.with_columns(
        pl.Series("departs", scheduled, dtype=pl.Datetime("us")),
        pl.Series("arrives", arrivals, dtype=pl.Datetime("us")),
    ).with_columns(
        departed=pl.col("departs") + minutes(minutes=pl.col("dep_delay")),
        arrived=pl.col("arrives") + minutes(minutes=pl.col("arr_delay")),
        block=(pl.col("arrives") - pl.col("departs")).dt.total_minutes(),
    )


class AsKnown:
    """What was known at one instant, from the raw rows alone."""

    def __init__(self, flights: pl.DataFrame, weather: pl.DataFrame, at: datetime) -> None:
        self.at = at
        known = flights.filter(pl.col("_known_at") <= at)
        left = pl.col("_departure_known_at") <= at
        landed = pl.col("_arrival_known_at") <= at
        self.flights = known.with_columns(
            departed=pl.when(left).then("departed"), dep_delay=pl.when(left).then("dep_delay"),
            arrived=pl.when(landed).then("arrived"), arr_delay=pl.when(landed).then("arr_delay"),
        )  # fmt: skip
        self.weather = weather.filter(pl.col("_known_at") <= at).sort("time_hour")

    def outcomes(self, **keys: object) -> pl.DataFrame:
        """Known outcomes of the flights with these values, as `late` and `since`."""
        flights = self.flights.filter(*[pl.col(name) == value for name, value in keys.items()])
        deadline = pl.col("arrives") + pl.duration(minutes=15)
        on_time = pl.col("arrived") < deadline
        return flights.select(
            late=pl.when(on_time).then(0).when(deadline <= self.at).then(1),
            since=pl.when(on_time).then("arrived").when(deadline <= self.at).then(deadline),
        ).drop_nulls()

    def anything(self, step: timedelta, *also: str, **keys: object) -> bool:
        """Whether anything was known of these flights at the last point of a grid of such steps."""
        instants = [self.outcomes(**keys)["since"]]
        flights = self.flights.filter(*[pl.col(name) == value for name, value in keys.items()])
        instants += [flights[name].drop_nulls() for name in also]
        first = min((column.min() for column in instants if len(column)), default=None)
        return first is not None and first <= grid_point(self.at, step)

    def late_rate(self, step: timedelta, window: timedelta, **keys: object) -> float:
        end = grid_point(self.at, step)
        outcomes = self.outcomes(**keys).filter(pl.col("since") > end - window, pl.col("since") <= end)
        return (int(outcomes["late"].sum()) + 0.22 * 20) / (len(outcomes) + 20)

    def delays(self, instant: str, delay: str, step: timedelta, window: timedelta, **keys: object) -> list[int]:
        end = grid_point(self.at, step)
        flights = self.flights.filter(*[pl.col(name) == value for name, value in keys.items()])
        return flights.filter(pl.col(instant) > end - window, pl.col(instant) <= end)[delay].to_list()

    def overdue(self, origin: str) -> list[float]:
        """Minutes since schedule of the flights that are waited for."""
        at = grid_point(self.at, HOUR / 4)
        ages = [
            (at - departs).total_seconds() / 60
            for departs, departed in self.flights.filter(origin=origin).select("departs", "departed").iter_rows()
            if departed is None or departed > at
        ]
        return [age for age in ages if 15 <= age < 360]

    def newest_leg(self, tail: str | None) -> dict[str, float | None]:
        events = []
        legs = self.flights.filter(tailnum=tail) if tail else self.flights.clear()
        for leg in legs.iter_rows(named=True):
            due = leg["departs"] + HOUR / 4
            block = timedelta(minutes=leg["block"])
            if due <= self.at and (leg["departed"] is None or leg["departed"] > due):
                events.append((due, leg["departs"], 1, due + block, 15, leg["block"]))
            if leg["departed"] is not None:
                events.append(
                    (leg["departed"], leg["departs"], 2, leg["departed"] + block, leg["dep_delay"], leg["block"])
                )
            if leg["arrived"] is not None:
                events.append((leg["arrived"], leg["departs"], 3, leg["arrived"], leg["dep_delay"], leg["block"]))
        if not events:
            return dict.fromkeys(
                (
                    "leg_expected_arrival_minute",
                    "leg_block_minutes",
                    "leg_departure_delay",
                    "leg_overdue",
                    "leg_arrived",
                )
            )
        newest = max(departs for _, departs, *_ in events)
        _, _, kind, arrival, delay, block = max(event for event in events if event[1] == newest)
        return {
            "leg_expected_arrival_minute": epoch_minute(arrival),
            "leg_block_minutes": block,
            "leg_departure_delay": delay,
            "leg_overdue": float(kind == 1),
            "leg_arrived": float(kind == 3),
        }

    def weather_at(self, origin: str) -> dict[str, float | None]:
        hours = {row["time_hour"]: row for row in self.weather.filter(origin=origin).iter_rows(named=True)}
        newest = max(hours)
        row = hours[newest]
        before = [hours[newest - n * HOUR]["temp"] for n in range(1, 7) if newest - n * HOUR in hours]
        usual = pl.Series(before).median() if before else None
        odd = usual is not None and row["temp"] is not None and abs(row["temp"] - usual) > 30
        last = [hours[newest - n * HOUR] for n in range(3) if newest - n * HOUR in hours]
        earlier = hours.get(newest - 6 * HOUR, {}).get("pressure")
        storm = (row["wind_speed"] or 0) > 150
        speed = None if storm else row["wind_speed"]
        gust = None if storm else (row["wind_gust"] if row["wind_gust"] is not None else speed)
        temperature, dew_point = (None, None) if odd else (row["temp"], row["dewp"])
        seen = (temperature, row["humid"], row["wind_dir"], speed, row["pressure"], row["visib"])
        return {
            "temperature": temperature,
            "dew_point": dew_point,
            "humidity": row["humid"],
            "wind_direction": row["wind_dir"],
            "wind_speed": speed,
            "wind_gust": gust,
            "visibility": row["visib"],
            "min_visibility_3h": min(hour["visib"] for hour in last),
            "rain_3h": sum(hour["precip"] for hour in last),
            "pressure": row["pressure"],
            "pressure_change_6h": None if None in (row["pressure"], earlier) else row["pressure"] - earlier,
            "missing_count": float(sum(value is None for value in seen)),
            "pressure_missing": float(row["pressure"] is None),
        }


def grid_point(instant: datetime, step: timedelta) -> datetime:
    """The last point of a grid since midnight that is not after the instant."""
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (instant - midnight) // step * step


def epoch_minute(instant: datetime) -> float:
    return instant.replace(tzinfo=UTC).timestamp() / 60


def mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def brute_force(flight: dict, flights: pl.DataFrame, weather: pl.DataFrame, planes: dict[str, dict]) -> dict:
    """Every feature of one flight, as known two hours before its departure."""
    known = AsKnown(flights, weather, flight["departs"] - 2 * HOUR)
    origin, carrier, dest, number = (flight[name] for name in ("origin", "carrier", "dest", "flight"))
    local = flight["departs"].replace(tzinfo=UTC).astimezone(NEW_YORK)
    gap = (pl.col("departs") - flight["departs"]).dt.total_minutes().abs()
    plane = planes.get(flight["tailnum"], {})
    overdue = known.overdue(origin)
    values = {
        "carrier_code": carrier,
        "origin_code": origin,
        "minute_of_day": local.hour * 60 + local.minute,
        "weekday": local.isoweekday(),
        "days_to_holiday": min(7, *(abs((local.date() - day).days) for day in HOLIDAYS)),
        "block_minutes": flight["block"],
        "distance_miles": flight["distance"],
        "departures_within_hour": known.flights.filter(gap <= 60, origin=origin).height,
        "scheduled_departure_minute": epoch_minute(flight["departs"]),
        "age_years": 2013 - plane["year"] if plane.get("year") else None,
        "seats": plane.get("seats"),
        "departed_1h": len(known.delays("departed", "dep_delay", HOUR / 4, HOUR, origin=origin)),
        "mean_departure_delay_1h": mean(known.delays("departed", "dep_delay", HOUR / 4, HOUR, origin=origin)),
        "mean_departure_delay_3h": mean(known.delays("departed", "dep_delay", HOUR / 4, 3 * HOUR, origin=origin)),
        "overdue_count": len(overdue),
        "overdue_minutes": sum(overdue) / len(overdue) if overdue else 0,
    }
    if not known.anything(HOUR / 4, "departed", origin=origin):  # the first flights of the data
        values |= dict.fromkeys(("departed_1h", "overdue_count", "overdue_minutes"))
    values |= known.weather_at(origin)
    values |= known.newest_leg(flight["tailnum"])
    windows = {"3h": 3 * HOUR, "24h": DAY, "7d": 7 * DAY, "28d": 28 * DAY}
    for prefix, step, names, keys, also in (
        ("origin", HOUR / 4, ["3h", "24h", "7d"], {"origin": origin}, ("departed",)),
        ("carrier", HOUR, ["3h", "24h", "7d", "28d"], {"carrier": carrier}, ()),
        ("origin_carrier", HOUR, ["3h", "24h", "7d"], {"origin": origin, "carrier": carrier}, ("departed",)),
        ("destination", HOUR, ["24h", "7d", "28d"], {"dest": dest}, ("arrived",)),
        ("route", 3 * HOUR, ["24h", "7d", "28d"], {"origin": origin, "dest": dest}, ()),
    ):
        exists = known.anything(step, *also, **keys)
        for name in names:
            values[f"{prefix}_late_rate_{name}"] = known.late_rate(step, windows[name], **keys) if exists else None
    departed = known.delays("departed", "dep_delay", HOUR, 3 * HOUR, origin=origin, carrier=carrier)
    values["origin_carrier_mean_departure_delay_3h"] = mean(departed)
    for name in ("3h", "24h"):
        arrived = known.delays("arrived", "arr_delay", HOUR, windows[name], dest=dest)
        values[f"destination_mean_arrival_delay_{name}"] = mean(arrived)
    outcomes = known.outcomes(carrier=carrier, flight=number)
    last = outcomes["since"].max()
    recent = outcomes.filter(pl.col("since") > last - 28 * DAY) if last else outcomes
    values["flight_number_late_rate_28d"] = (recent["late"].sum() + 4.4) / (len(recent) + 20) if last else None
    values["last_is_late"] = outcomes.filter(since=last)["late"].max() if last else None
    values["outcomes_28d"] = len(recent) if last else None
    return values


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
    flights, weather = raw_flights(then), then.rows("FROM raw.weather")
    planes = {
        row["tailnum"]: row
        for row in then.rows("FROM raw.planes WHERE seats > 10 AND type = 'Fixed wing multi engine'").iter_rows(
            named=True
        )
    }
    asked = flights.filter(pl.col("departs") - pl.duration(hours=2) <= THEN.replace(tzinfo=None)).sort(
        "departs", "flight"
    )
    chosen = [asked.row(index, named=True) for index in random.Random(13).sample(range(len(asked)), 50)]
    ids = [
        "|".join([str(date(f["year"], f["month"], f["day"])), f["origin"], f["carrier"], str(f["flight"])])
        for f in chosen
    ]
    found = as_of_read(then, ids)
    wrong = []
    for flight_id, flight in zip(ids, chosen, strict=True):
        expected = brute_force(flight, flights, weather, planes)
        assert set(expected) == set(found[flight_id])
        for name, value in expected.items():
            got = found[flight_id][name]
            same = got == value if isinstance(value, str) or value is None else got == pytest.approx(value, abs=1e-6)
            if not same:
                wrong.append((flight_id, name, got, value))
    assert wrong == []
