"""Dengue as known then, on the real cases: the future changes nothing, and plain Python finds the same.

As `test_as_known_then.py` does for the flights. Here counts of past weeks still grow: a case with onset this week is
confirmed next week or later, and a count by onset must not hold it before.
"""

import math
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import duckdb
import polars as pl
import pytest

from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.sources import load_sources
from hindcast.tables.ingest import ingest
from hindcast.tables.transform import build
from tests.conftest import ROOT
from tests.control import names_of, write_control

THEN = datetime(2015, 9, 28, tzinfo=UTC)  # the largest epidemic at its height
LATER = datetime(2015, 11, 23, tzinfo=UTC)
WEEK = timedelta(days=7)
FEATURES = {"township_cases": "township", "county_cases": "county"}  # table -> key


@dataclass
class World:
    """One home with the raw table as of an instant."""

    lake: Lake
    problem: Problem

    @classmethod
    def at(cls, settings: Settings, now: datetime) -> "World":
        problem = load_problem(settings.problem_file)
        sources = load_sources(settings.sources_file(problem.domain))
        ingest(Lake(settings), sources, "dengue_cases", now, settings)
        return cls(Lake(settings), problem)

    def build(self, known_until: datetime) -> None:
        write_control(self.lake, self.problem, known_until=known_until, as_of=min(known_until, THEN))
        results = build(self.lake.settings, names_of(self.lake.settings, "dengue", "model", "seed"))
        assert [result for result in results if result.failed] == []

    def rows(self, sql: str) -> pl.DataFrame:
        with self.lake.reading() as connection:
            return connection.execute(sql).pl()


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Everything as it was known then."""
    world = World.at(Settings(ROOT, tmp_path_factory.mktemp("then"), "dengue"), THEN)
    world.build(THEN)
    return world


@pytest.fixture(scope="module")
def other_future(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same past, and a future in which nothing came as it did."""
    world = World.at(Settings(ROOT, tmp_path_factory.mktemp("later"), "dengue"), LATER)
    change_the_future(world.lake)
    world.build(LATER)
    return world


def change_the_future(lake: Lake) -> None:
    """Of the cases that became known after THEN, some don't come, some fell ill long before, some live elsewhere."""
    known_later = f"_known_at > TIMESTAMP '{THEN.replace(tzinfo=None)}'"
    with lake.writing() as connection:
        changed = connection.execute(f"SELECT count(*) FROM raw.dengue_cases WHERE {known_later}").fetchall()[0][0]
        assert changed > 10_000
        chance = "hash(_source_line) % 4"
        connection.execute(f"DELETE FROM raw.dengue_cases WHERE {known_later} AND {chance} = 0")
        connection.execute(
            f"UPDATE raw.dengue_cases SET Date_Onset = Date_Onset - 30 WHERE {known_later} AND {chance} = 1"
        )
        connection.execute(
            "UPDATE raw.dengue_cases SET MOI_Township_living = 'Beitou District', MOI_County_living = 'Taipei City', "
            f"Imported = 'Y' WHERE {known_later} AND {chance} = 2"
        )


def differences(one: pl.DataFrame, other: pl.DataFrame) -> list[tuple]:
    """Up to three rows that only one of two tables holds."""
    with duckdb.connect() as connection:
        connection.register("one", one)
        connection.register("other", other)
        return connection.execute(
            "SELECT * FROM ((FROM one EXCEPT ALL FROM other) UNION ALL (FROM other EXCEPT ALL FROM one)) LIMIT 3"
        ).fetchall()


@pytest.mark.parametrize("table", FEATURES)
def test_the_future_changes_no_feature(then: World, other_future: World, table: str) -> None:
    ours = then.rows(f"FROM features.{table}")
    known = f"event_timestamp <= TIMESTAMP '{THEN.replace(tzinfo=None)}'"
    assert len(ours) > 3000
    assert differences(ours, other_future.rows(f"FROM features.{table} WHERE {known}")) == []


def test_the_future_changes_no_label_and_no_split(then: World, other_future: World) -> None:
    ours = then.rows("FROM labeled.township_weeks WHERE label_known_at IS NOT NULL")
    known = f"label_known_at <= TIMESTAMP '{THEN.replace(tzinfo=None)}'"
    assert len(ours) > 15_000
    assert differences(ours, other_future.rows(f"FROM labeled.township_weeks WHERE {known}")) == []
    ours = then.rows("FROM split.township_week_splits")
    assert len(ours) > 3000
    assert differences(ours, other_future.rows("FROM split.township_week_splits")) == []


def test_the_other_future_is_another(then: World, other_future: World) -> None:
    """The tests above would hold of an unchanged future too: this one would not."""
    summer = "onset_date BETWEEN DATE '2015-08-01' AND DATE '2015-09-27'"
    onsets = f"SELECT sum(cases) FROM cleaned.int_case_counts WHERE {summer}"
    assert other_future.rows(onsets).item() > 1.1 * float(then.rows(onsets).item())


def test_a_count_by_onset_only_grows(then: World) -> None:
    """The same week, counted on one Monday and on the next."""
    grown = then.rows(
        """
        SELECT later.log_onset_2w - earlier.log_onset_1w AS by
        FROM features.township_cases AS earlier JOIN features.township_cases AS later
            ON earlier.township = later.township
            AND later.event_timestamp = earlier.event_timestamp + INTERVAL 7 DAY
        """
    )["by"]
    assert grown.min() >= 0
    assert (grown > 0).sum() > 500


def test_step_by_step_the_tables_are_the_same(then: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Built every two weeks through the epidemic, and built at once."""
    steps = World.at(Settings(ROOT, tmp_path_factory.mktemp("steps"), "dengue"), THEN - 4 * WEEK)
    steps.build(THEN - 4 * WEEK)
    for instant in (THEN - 2 * WEEK, THEN):
        World.at(steps.lake.settings, instant).build(instant)
    for table in ("labeled.township_weeks", *(f"features.{table}" for table in FEATURES)):
        assert differences(then.rows(f"FROM {table}"), steps.rows(f"FROM {table}")) == [], table


Case = dict[str, object]


def raw_cases(world: World) -> list[Case]:
    """The raw rows with the instant at which each was known, by Python's own calendar."""
    cases = []
    for row in world.rows("FROM raw.dengue_cases").iter_rows(named=True):
        notified, confirmed = row["Date_Notification"], row["Date_Confirmation"]
        known = max(notified, confirmed or notified + timedelta(days=14)) + timedelta(days=1)
        place = row["MOI_Township_living"] and f"{row['MOI_Township_living']}, {row['MOI_County_living']}"
        cases.append(
            {
                "township": place,
                "county": row["MOI_County_living"],
                "onset": min(row["Date_Onset"], notified),
                "known": datetime.combine(known, time.min),
                "imported": row["Imported"] == "Y",
                "cases": row["Number_of_confirmed_cases"],
            }
        )
    return cases


def logged(cases: list[Case], weight: float = 1.0) -> float:
    return math.log1p(weight * sum(case["cases"] for case in cases))


def brute_force(township: str, county: str, at: datetime, cases: list[Case], near: dict[str, int]) -> dict[str, float]:
    """A township's features on a Monday, from the cases known on it; none looks back further than two years."""
    known = [case for case in cases if at - 105 * WEEK < case["known"] <= at]
    day = timedelta(days=1)

    def reported(those: list[Case], since: timedelta, until: timedelta = timedelta(0)) -> list[Case]:
        return [case for case in those if at - since < case["known"] <= at - until]

    def fell_ill(those: list[Case], first: int, last: int) -> list[Case]:
        today = at.date()
        return [case for case in those if today - first * day <= case["onset"] <= today - last * day]

    here = [case for case in known if case["township"] == township]
    around = [case | {"cases": case["cases"] * near[case["township"]]} for case in known if case["township"] in near]
    nationwide, of_county = known, [case for case in known if case["county"] == county]
    weeks = [math.ceil((at - case["known"]) / WEEK + 1e-9) - 1 for case in here]
    angle = 2 * math.pi * at.timetuple().tm_yday / 365.25
    return {
        "log_onset_1w": logged(fell_ill(here, 7, 1)),
        "log_onset_2w": logged(fell_ill(here, 14, 8)),
        "log_reported_3d": logged(reported(here, 3 * day)),
        "log_reported_1w": logged(reported(here, WEEK)),
        "log_reported_2w": logged(reported(here, 2 * WEEK, WEEK)),
        "log_reported_4w": logged(reported(here, 4 * WEEK)),
        "log_reported_52w": logged(reported(here, 52 * WEEK)),
        "log_imported_4w": logged([case for case in reported(here, 4 * WEEK) if case["imported"]]),
        "weeks_since_report": float(min([week for week in weeks if week < 104], default=104)),
        "log_nearby_onset_1w": logged(fell_ill(around, 7, 1), 1 / 1000),
        "log_nearby_reported_1w": logged(reported(around, WEEK), 1 / 1000),
        "log_county_reported_1w": logged(reported(of_county, WEEK)),
        "log_county_reported_2w": logged(reported(of_county, 2 * WEEK, WEEK)),
        "log_taiwan_reported_3d": logged(reported(nationwide, 3 * day)),
        "log_taiwan_reported_1w": logged(reported(nationwide, WEEK)),
        "log_taiwan_reported_2w": logged(reported(nationwide, 2 * WEEK, WEEK)),
        "season_sin": math.sin(angle),
        "season_cos": math.cos(angle),
    }


def neighbours(world: World) -> dict[str, dict[str, int]]:
    """Per township the others less than 20 km away, with their weights in thousandths."""
    places = {
        row[0]: row[1:] for row in world.rows("SELECT township, longitude, latitude FROM cleaned.townships").rows()
    }
    found: dict[str, dict[str, int]] = {}
    for here, (longitude, latitude) in places.items():
        for there, (east, north) in places.items():
            x = (east - longitude) * math.cos(math.radians(latitude))
            kilometres = 111.2 * math.hypot(north - latitude, x)
            if here != there and kilometres < 20:
                found.setdefault(here, {})[there] = round(1000 * math.exp(-kilometres / 5))
    return found


def test_plain_python_finds_the_same_features_and_labels(then: World) -> None:
    weeks = then.rows("SELECT * FROM labeled.township_weeks ORDER BY prediction_time, township")
    cases, near = raw_cases(then), neighbours(then)
    lately = weeks.filter(pl.col("prediction_time") >= datetime(2015, 6, 1))  # else most would be weeks without a case
    chosen = [
        frame.row(index, named=True)
        for frame in (weeks, lately)
        for index in random.Random(13).sample(range(len(frame)), 30)
    ]
    tables = {table: then.rows(f"FROM features.{table}") for table in FEATURES}
    wrong = []
    for week in chosen:
        at, township, county = week["prediction_time"], week["township"], week["county"]
        found: dict[str, float] = {}
        for table, key in FEATURES.items():
            (row,) = tables[table].filter(pl.col(key) == week[key], event_timestamp=at).rows(named=True)
            found |= {name: value for name, value in row.items() if name not in (key, "event_timestamp")}
        expected = brute_force(township, county, at, cases, near.get(township, {}))
        assert found.keys() == expected.keys()
        wrong += [
            (township, at, name, found[name], expected[name])
            for name in expected
            if not math.isclose(found[name], expected[name], rel_tol=1e-9, abs_tol=1e-9)
        ]
        matures = at + 4 * WEEK
        label = sum(
            case["cases"]
            for case in cases
            if case["township"] == township
            and case["known"] <= matures
            and at.date() <= case["onset"] < (at + WEEK).date()
        )
        expected_label = (label, matures) if matures <= THEN.replace(tzinfo=None) else (None, None)
        assert (week["cases"], week["label_known_at"]) == expected_label
    assert wrong == []


def test_a_township_is_asked_about_from_its_fiftieth_case_on(then: World) -> None:
    first = dict(then.rows("SELECT township, min(prediction_time) FROM labeled.township_weeks GROUP BY 1").rows())
    known: dict[str, list[datetime]] = {}
    for case in raw_cases(then):
        if case["township"]:
            known.setdefault(case["township"], []).extend([case["known"]] * case["cases"])
    expected = {}
    for township, instants in known.items():
        if len(instants) >= 50:
            fiftieth = sorted(instants)[49]
            monday = datetime.combine(fiftieth.date() - timedelta(days=fiftieth.weekday()), time.min)
            expected[township] = monday if monday == fiftieth else monday + WEEK
    assert first == {township: at for township, at in expected.items() if at <= THEN.replace(tzinfo=None)}
    assert min(first.values()).date() > date(1998, 1, 1)
