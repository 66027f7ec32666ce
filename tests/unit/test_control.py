"""Windows by calendar arithmetic, and the two control tables that are written only when they change."""

from datetime import UTC, datetime, timedelta

import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.control import ingested_until, instant_as_of, read_instants, shift, windows_as_of, write_control

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
    assert write_control(lake, problem, later, NOVEMBER) != version
    assert read_instants(lake) == {"known_until": datetime(2013, 11, 4), "as_of": datetime(2013, 11, 1)}


def test_as_of_stays_where_it_is_until_it_is_moved(settings: Settings) -> None:
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    later = NOVEMBER + timedelta(days=3)
    assert instant_as_of(lake, None, later) == later
    write_control(lake, problem, later, NOVEMBER)
    assert instant_as_of(lake, None, later) == NOVEMBER
    assert instant_as_of(lake, "2013-11-02T01:00:00+01:00", later) == NOVEMBER + timedelta(days=1)
    assert instant_as_of(lake, "2013-12-01T00:00:00Z", later) == later


@pytest.mark.parametrize("asked", ["tomorrow", "2013-11-01T00:00:00"])
def test_what_is_no_instant_is_refused(settings: Settings, asked: str) -> None:
    with pytest.raises(HindcastError, match="as_of: "):
        instant_as_of(Lake(settings), asked, NOVEMBER)


def test_as_of_cannot_lie_in_the_future(settings: Settings) -> None:
    with pytest.raises(HindcastError, match="can't be known yet"):
        write_control(Lake(settings), load_problem(settings.problem_file), NOVEMBER, NOVEMBER + timedelta(seconds=1))


def test_data_is_known_until_it_was_last_ingested(settings: Settings) -> None:
    lake = Lake(settings)
    assert ingested_until(lake, NOVEMBER) == NOVEMBER
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA raw")
        for table, instant in (("a", "2013-10-30 12:00"), ("b", "2013-10-31 06:00")):
            connection.execute(f"CREATE TABLE raw.{table} AS SELECT TIMESTAMP '{instant}' AS _ingested_at")
    assert ingested_until(lake, NOVEMBER) == datetime(2013, 10, 31, 6, tzinfo=UTC)
