"""Windows by calendar arithmetic, and the two control tables that are written only when they change."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.windows import (
    complete_until,
    create_tables,
    first_known,
    ingested_until,
    instant_as_of,
    known_until,
    note_ingested,
    read_as_of,
    read_ingested,
    read_instants,
    set_cap,
    shift,
    tables_until,
    windows_as_of,
)
from tests.control import sources_of, write_control

NOVEMBER = datetime(2013, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "offset", "expected"),
    [
        ("2013-11-01T00:00:00+00:00", "-10 months", "2013-01-01T00:00:00+00:00"),
        ("2013-11-01T00:00:00+00:00", "-11 months", "2012-12-01T00:00:00+00:00"),
        ("2013-11-01T00:00:00+00:00", "-1 month", "2013-10-01T00:00:00+00:00"),
        ("2013-03-31T06:00:00+00:00", "-1 months", "2013-02-28T06:00:00+00:00"),
        ("2013-03-01T00:00:00+00:00", "-8 weeks", "2013-01-04T00:00:00+00:00"),
        ("2013-03-01T00:00:00+00:00", "-36 hours", "2013-02-27T12:00:00+00:00"),
        ("2013-03-01T00:00:00+00:00", "-3 days", "2013-02-26T00:00:00+00:00"),
        ("2013-03-01T00:00:00+00:00", "0 months", "2013-03-01T00:00:00+00:00"),
    ],
)
def test_offsets_move_by_the_calendar(instant: str, offset: str, expected: str) -> None:
    assert shift(datetime.fromisoformat(instant), offset).isoformat() == expected


def test_the_main_jobs_windows(settings: Settings) -> None:
    problem = load_problem(settings.problem_file)
    months = {name: (start.month, end.month) for name, (start, end) in windows_as_of(problem.splits, NOVEMBER).items()}
    assert months == {"train": (1, 9), "validation": (9, 10), "test": (10, 11)}


def test_the_same_content_is_written_once(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    version = write_control(lake, problem, NOVEMBER, NOVEMBER)
    snapshot = lake.snapshot()
    assert write_control(lake, problem, NOVEMBER, NOVEMBER) == version
    assert lake.snapshot() == snapshot
    later = NOVEMBER + timedelta(days=3)
    assert write_control(lake, problem, later, NOVEMBER) == version  # the windows are the same
    assert read_instants(lake) == {"labels.flight_delay": datetime(2013, 11, 4)}
    assert read_as_of(lake, problem) == NOVEMBER


def test_as_of_stays_where_it_is_until_it_is_moved(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    later = NOVEMBER + timedelta(days=3)
    assert instant_as_of(lake, problem, None, later) == later
    write_control(lake, problem, later, NOVEMBER)
    assert instant_as_of(lake, problem, None, later) == NOVEMBER
    assert instant_as_of(lake, problem, "2013-11-02T01:00:00+01:00", later) == NOVEMBER + timedelta(days=1)
    assert instant_as_of(lake, problem, "2013-12-01T00:00:00Z", later) == later


@pytest.mark.parametrize(
    ("asked", "why"), [("tomorrow", "'tomorrow' is no instant"), ("2013-11-01T00:00:00", "has no time zone")]
)
def test_what_is_no_instant_is_refused(settings: Settings, asked: str, why: str) -> None:
    with pytest.raises(HindcastError, match=f"as_of: .*{why}"):
        instant_as_of(Lake(settings), load_problem(settings.problem_file), asked, NOVEMBER)


def test_as_of_cannot_lie_in_the_future(settings: Settings) -> None:
    with pytest.raises(HindcastError, match="can't be known yet"):
        write_control(Lake(settings), load_problem(settings.problem_file), NOVEMBER, NOVEMBER + timedelta(seconds=1))


def ingest_notes(lake: Lake, *deliveries: tuple[str, str | None, str]) -> None:
    with lake.writing() as connection:
        create_tables(connection)
        for table, month, at in deliveries:
            day = date.fromisoformat(month) if month else None
            note_ingested(connection, table, [day], datetime.fromisoformat(at), "as declared")


def test_data_is_complete_until_the_slowest_table(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    assert ingested_until(lake, sources_of(lake, problem), NOVEMBER) == NOVEMBER
    ingest_notes(lake, ("weather", None, "2013-10-30 12:00"), ("flights", None, "2013-10-30 09:00"))
    assert ingested_until(lake, sources_of(lake, problem), NOVEMBER) == datetime(2013, 10, 30, 9, tzinfo=UTC)
    assert ingested_until(lake, sources_of(lake, problem), datetime(2013, 10, 1, tzinfo=UTC)) == datetime(
        2013, 10, 1, tzinfo=UTC
    )
    ingest_notes(lake, ("flights", None, "2013-10-30 13:00"))
    assert tables_until(lake, sources_of(lake, problem)) == {
        "flights": datetime(2013, 10, 30, 13),
        "weather": datetime(2013, 10, 30, 12),
    }


def test_labels_are_known_until_the_slowest_table_they_are_made_from(settings: Settings) -> None:
    """Weather says nothing of who arrived: that it is late, or early, makes no flight late."""
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    ingest_notes(lake, ("weather", None, "2013-10-30 12:00"), ("flights", None, "2013-10-30 09:00"))
    as_of = datetime(2013, 10, 1, tzinfo=UTC)
    write_control(lake, problem, NOVEMBER, as_of, label_tables={"flights"})
    assert read_instants(lake)["labels.flight_delay"] == datetime(2013, 10, 30, 9)
    ingest_notes(lake, ("flights", None, "2013-10-30 18:00"))
    write_control(lake, problem, NOVEMBER, as_of, label_tables={"flights"})
    assert read_instants(lake)["labels.flight_delay"] == datetime(2013, 10, 30, 18)
    assert read_instants(lake)["raw.weather"] == datetime(2013, 10, 30, 12)
    write_control(lake, problem, datetime(2013, 10, 30, 10, tzinfo=UTC), as_of, label_tables={"flights"})
    assert read_instants(lake)["labels.flight_delay"] == datetime(2013, 10, 30, 10)  # nothing later is to be used


MATURES = timedelta(hours=15)


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        ({"2013-10": "11-01 14:59", "2013-11": "11-20 00:00"}, "11-01 14:59"),  # October's last labels were still open
        ({"2013-10": "11-01 15:00", "2013-11": "11-20 00:00"}, "11-20 00:00"),  # and here they weren't
        ({"2013-10": "11-20 00:00", "2013-11": "11-10 00:00"}, "11-10 00:00"),
        ({"2013-10": "12-05 00:00", "2013-11": "12-05 00:00"}, "12-01 00:00"),  # December was left out
        ({"2013-09": "12-05 00:00", "2013-11": "12-05 00:00"}, "10-01 00:00"),  # October was
        ({"2013-11": "11-20 00:00", "2013-12": "11-20 00:00"}, "11-20 00:00"),
    ],
)
def test_a_month_counts_until_its_labels_have_matured(deliveries: dict[str, str], expected: str) -> None:
    months = {
        date.fromisoformat(f"{month}-01"): datetime.fromisoformat(f"2013-{at}") for month, at in deliveries.items()
    }
    assert complete_until(months, MATURES) == datetime.fromisoformat(f"2013-{expected}")


def test_after_the_last_month_nothing_is_missing() -> None:
    months: dict[date | None, datetime] = {
        date(2013, 11, 1): datetime(2014, 1, 5),
        date(2013, 12, 1): datetime(2014, 1, 6),
    }
    assert complete_until(months, MATURES, ends=date(2014, 1, 1)) == datetime(2014, 1, 6)
    assert complete_until(months, MATURES) == datetime(2014, 1, 1)


def test_before_the_first_row_nothing_can_be_as_of(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    ingest_notes(lake, ("flights", None, "2013-10-30 09:00"))
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA raw; CREATE TABLE raw.flights AS SELECT TIMESTAMP '2013-01-02' AS _known_at")
    with pytest.raises(HindcastError, match=r"nothing was known: the first row .* 2013-01-02"):
        write_control(lake, problem, NOVEMBER, datetime(2013, 1, 1, 23, 59, tzinfo=UTC))
    write_control(lake, problem, NOVEMBER, datetime(2013, 1, 2, tzinfo=UTC))


def test_windows_and_instants_are_written_in_utc(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    ingest_notes(lake, ("flights", None, "2013-10-30 09:00"), ("weather", None, "2013-11-03 12:00"))
    east = timezone(timedelta(hours=2))
    as_of = datetime(2013, 10, 1, 2, tzinfo=east)
    for _ in range(2):  # the second time beside what is there
        write_control(lake, problem, NOVEMBER.astimezone(east), as_of)
        assert read_instants(lake) == {
            "labels.flight_delay": datetime(2013, 10, 30, 9),
            "raw.flights": datetime(2013, 10, 30, 9),
            "raw.weather": datetime(2013, 11, 1),
        }
        with lake.reading() as connection:
            windows = connection.execute("SELECT * EXCLUDE problem FROM control.windows ORDER BY starts_at").fetchall()
        assert windows == [
            ("train", datetime(2012, 12, 1), datetime(2013, 8, 1), datetime(2013, 10, 1)),
            ("validation", datetime(2013, 8, 1), datetime(2013, 9, 1), datetime(2013, 10, 1)),
            ("test", datetime(2013, 9, 1), datetime(2013, 10, 1), datetime(2013, 10, 1)),
        ]
        as_of = datetime(2013, 10, 1, tzinfo=UTC)


def test_the_cap_is_an_instant_beside_the_others(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    assert read_instants(lake) == {}
    set_cap(lake, None)
    assert read_instants(lake) == {}
    write_control(lake, problem, NOVEMBER, NOVEMBER)
    others = {"labels.flight_delay": datetime(2013, 11, 1)}
    for cap in (datetime(2013, 9, 1), datetime(2013, 10, 1)):
        set_cap(lake, cap)
        assert read_instants(lake) == others | {"cap": cap}
    snapshot = lake.snapshot()
    set_cap(lake, datetime(2013, 10, 1))
    assert lake.snapshot() == snapshot
    set_cap(lake, None)
    assert read_instants(lake) == others


def test_what_tables_are_made_from_is_known_until_the_first_of_them() -> None:
    instants = {name: datetime(2013, 10, day) for name, day in (("raw.a", 9), ("raw.b", 8), ("labels.x", 7))}
    assert known_until(["a"], instants) == datetime(2013, 10, 9)
    assert known_until(["a", "b"], instants) == datetime(2013, 10, 8)
    assert known_until(["c", "a"], instants) == datetime(2013, 10, 9)
    assert known_until(["a"], instants | {"cap": datetime(2013, 10, 1)}) == datetime(2013, 10, 1)
    assert known_until([], instants) == datetime.min
    assert known_until([], {}) == datetime.min


def test_a_delivery_is_noted_per_month_and_a_declaration_per_table(settings: Settings) -> None:
    lake = Lake(settings)
    january, february = date(2013, 1, 1), date(2013, 2, 1)
    first, second = datetime(2013, 3, 1), datetime(2013, 4, 1)
    with lake.writing() as connection:
        create_tables(connection)
        assert read_ingested(connection, "a") == ({}, None)
        for table in ("a", "b"):
            note_ingested(connection, table, [january, february], first, "one")
        note_ingested(connection, "c", [None], first, "one")
        note_ingested(connection, "a", [february], second, "one")
        note_ingested(connection, "c", [None], second, "one")
        assert read_ingested(connection, "a") == ({january: first, february: second}, "one")
        assert read_ingested(connection, "b") == ({january: first, february: first}, "one")
        assert read_ingested(connection, "c") == ({None: second}, "one")
        note_ingested(connection, "a", [january], second, "two")
        rows = connection.execute("SELECT * EXCLUDE table_name FROM control.ingested WHERE table_name = 'a'").fetchall()
        assert sorted(rows) == [(january, second, "two"), (february, second, "two")]
        assert read_ingested(connection, "b") == ({january: first, february: first}, "one")
    snapshot = lake.snapshot()
    with lake.writing() as connection:
        note_ingested(connection, "a", [january, february], second, "two")
        note_ingested(connection, "c", [None], second, "one")
    assert lake.snapshot() == snapshot


def test_the_first_row_of_any_raw_table_is_the_first_that_is_known(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    assert first_known(lake, sources_of(lake, problem)) is None
    ingest_notes(lake, *((table, None, "2013-10-30 09:00") for table in ("a", "b", "empty", "missing")))
    assert first_known(lake, sources_of(lake, problem)) is None
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA raw; CREATE TABLE raw.empty (_known_at TIMESTAMP)")
        for table, day in (("a", 5), ("b", 3)):
            connection.execute(f"CREATE TABLE raw.{table} (_known_at TIMESTAMP)")
            connection.execute(f"INSERT INTO raw.{table} VALUES ('2013-01-0{day}'), ('2013-01-09')")
    assert first_known(lake, sources_of(lake, problem)) == datetime(2013, 1, 3, tzinfo=UTC)
