"""The instants and windows that the SQL reads: what is known by when, and which prediction times each split admits.

Only these two small tables are written here; what they mean for rows is the SQL's business.
"""

import calendar
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake, has_table
from hindcast.problem import Problem, Splits

INSTANTS = "control.instants"
WINDOWS = "control.windows"
HELD = "control.held"  # kept by dbt: dbt_project/macros/increments.sql
_UNITS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


def write_control(lake: Lake, problem: Problem, known_until: datetime, as_of: datetime) -> str:
    """Writes both tables in one snapshot, or nothing where they hold just this already.

    Args:
        lake: Where they go.
        problem: Names the splits' windows, relative to the as-of instant.
        known_until: The clock (UTC) when data was last ingested (see `ingested_until`).
        as_of: The instant (UTC) that the split is made as of.

    Returns:
        A version of the content: equal content, equal version.

    Raises:
        HindcastError: The as-of instant lies in the future: its windows would change with every ingestion.
    """
    if as_of > known_until:
        raise HindcastError(
            f"As of {as_of.isoformat()} can't be known yet: the data goes to {known_until.isoformat()}. "
            "Choose an earlier instant, or ingest first."
        )
    instants = [("known_until", _naive(known_until)), ("as_of", _naive(as_of))]
    windows = [
        (name, _naive(start), _naive(end)) for name, (start, end) in windows_as_of(problem.splits, as_of).items()
    ]
    with lake.writing() as connection:
        if (_rows(connection, INSTANTS), _rows(connection, WINDOWS)) != (sorted(instants), sorted(windows)):
            connection.execute("CREATE SCHEMA IF NOT EXISTS control")
            connection.execute(f'CREATE OR REPLACE TABLE {INSTANTS} (name VARCHAR, "at" TIMESTAMP)')
            connection.execute(
                f"CREATE OR REPLACE TABLE {WINDOWS} (split VARCHAR, starts_at TIMESTAMP, ends_at TIMESTAMP)"
            )
            connection.executemany(f"INSERT INTO {INSTANTS} VALUES (?, ?)", instants)
            connection.executemany(f"INSERT INTO {WINDOWS} VALUES (?, ?, ?)", windows)
    return fingerprint(values=[*instants, *windows])


def read_instants(lake: Lake) -> dict[str, datetime]:
    """The named instants (UTC, without saying so) as the lake has them; none before they were first written."""
    if not lake.settings.lake_catalogue.exists():
        return {}
    with lake.reading() as connection:
        return dict(_rows(connection, INSTANTS))


def instant_as_of(lake: Lake, asked: str | None, known_until: datetime) -> datetime:
    """The instant (UTC) that the split is to be made as of: what is asked for, else what the lake says already.

    At first, and where a later one is asked for, it is `known_until`: as of then and as of later the same is known,
    and only then will it stay so when more comes in.

    Raises:
        HindcastError: What is asked for isn't an instant with a time zone.
    """
    if asked is None:
        known = read_instants(lake).get("as_of")
        return known.replace(tzinfo=UTC) if known else known_until
    try:
        instant = datetime.fromisoformat(asked)
    except ValueError as error:
        raise HindcastError(f"as_of: {asked!r} is no instant; write it as 2013-11-01T00:00:00Z.") from error
    if instant.tzinfo is None:
        raise HindcastError(f"as_of: {asked!r} has no time zone; write …Z for UTC.")
    return min(instant.astimezone(UTC), known_until)


def ingested_until(lake: Lake, now: datetime) -> datetime:
    """The clock (UTC) when the raw tables last changed; `now` where there are none.

    Not simply now: an arrival of the last hour that wasn't ingested yet would read as one that never came.
    """
    if not lake.settings.lake_catalogue.exists():
        return now
    with lake.reading() as connection:
        tables = connection.execute(
            "SELECT table_name FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'raw' "
            "AND column_name = '_ingested_at' ORDER BY table_name"
        ).fetchall()
        newest = [
            connection.execute(f'SELECT max(_ingested_at) FROM raw."{name}"').fetchall()[0][0] for (name,) in tables
        ]
    ingested = [instant.replace(tzinfo=UTC) for instant in newest if instant is not None]
    return min(max(ingested), now) if ingested else now


def windows_as_of(splits: Splits, as_of: datetime) -> dict[str, tuple[datetime, datetime]]:
    """Start (included) and end (excluded) of each split's prediction times, in calendar time of UTC."""
    return {
        name: (shift(as_of, window.start), shift(as_of, window.end))
        for name, window in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
    }


def shift(instant: datetime, offset: str) -> datetime:
    """An instant moved by an offset as the problem file writes it: '-2 months', '-12 hours', '0 days'.

    A month back from the 31st is the last day of the month before, where that is shorter.
    """
    number, unit = offset.split()
    count, unit = int(number), unit.removesuffix("s")
    if unit != "month":
        return instant + count * _UNITS[unit]
    months = instant.year * 12 + instant.month - 1 + count
    year, month = divmod(months, 12)
    day = min(instant.day, calendar.monthrange(year, month + 1)[1])
    return instant.replace(year=year, month=month + 1, day=day)


def _rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[Any, ...]]:
    """A control table's rows, sorted; none before it was first written."""
    if not has_table(connection, table):
        return []
    return sorted(connection.execute(f"FROM {table}").fetchall())


def _naive(instant: datetime) -> datetime:
    """As the lake keeps instants: UTC without saying so."""
    return instant.astimezone(UTC).replace(tzinfo=None)
