"""The small tables that tell the SQL about time. What they mean for rows is the SQL's business.

`control.instants` holds named instants: per raw table until when all is known of it, per problem the first of these
that its labels are made from, and `cap`, past which nothing is used while the past is rebuilt. `control.windows` holds
per problem the prediction times that each split admits and the instant that they are as of, `control.ingested` per
table and month the instant of its last delivery, `control.corrections` the instants at which rows that had been known
turned out otherwise.
"""

import calendar
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb

from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake, has_table
from hindcast.problem import Problem, Splits
from hindcast.sources import Sources
from hindcast.sql import without_zone

INSTANTS = "control.instants"
WINDOWS = "control.windows"
INGESTED = "control.ingested"
CORRECTIONS = "control.corrections"
CAP = "cap"
BUILT_UNTIL = "control.built_until"  # kept by dbt: dbt_project/macros/increments.sql
_TABLES = {
    INSTANTS: 'name VARCHAR, "at" TIMESTAMP',
    WINDOWS: "problem VARCHAR, split VARCHAR, starts_at TIMESTAMP, ends_at TIMESTAMP, as_of TIMESTAMP",
    INGESTED: "table_name VARCHAR, month DATE, ingested_until TIMESTAMP, declaration VARCHAR",
    CORRECTIONS: 'table_name VARCHAR, "at" TIMESTAMP',
}
_UNITS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables that are missing, empty: what dbt always reads is there before the first model is built."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS control")
    for table, columns in _TABLES.items():
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")


def note_ingested(
    connection: duckdb.DuckDBPyConnection, table: str, months: Iterable[date | None], at: datetime, declaration: str
) -> None:
    """Notes when a table was delivered last.

    Args:
        connection: In a transaction.
        table: Its name, without the schema.
        months: What the delivery was about: first days of months, or None alone for a table without months.
        at: The instant (UTC, without a zone).
        declaration: Short name of how rows are declared to become known.
    """
    there = {
        month: (instant, declared)
        for month, instant, declared in connection.execute(
            f"SELECT month, ingested_until, declaration FROM {INGESTED} WHERE table_name = ?", [table]
        ).fetchall()
    }
    news = [month for month in months if there.get(month) != (at, declaration)]
    if any(declared != declaration for _, declared in there.values()):
        connection.execute(f"UPDATE {INGESTED} SET declaration = ? WHERE table_name = ?", [declaration, table])
    if news:
        connection.execute(
            f"DELETE FROM {INGESTED} WHERE table_name = ? AND (month IN (SELECT unnest(?::DATE[])) OR month IS NULL)",
            [table, [month for month in news if month is not None]],
        )
        connection.execute(f"INSERT INTO {INGESTED} SELECT ?, unnest(?::DATE[]), ?, ?", [table, news, at, declaration])


def read_ingested(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[dict[date | None, datetime], str | None]:
    """Per month (None of a table without months) the instant (UTC, without a zone) of its last delivery, and the short
    name of how its rows were declared to become known then; None where it was never delivered."""
    rows = connection.execute(
        f"SELECT month, ingested_until, declaration FROM {INGESTED} WHERE table_name = ? ORDER BY month", [table]
    ).fetchall()
    return {month: instant for month, instant, _ in rows}, rows[0][2] if rows else None


def complete_until(
    months: dict[date | None, datetime], settles_within: timedelta, ends: date | None = None
) -> datetime:
    """Until when all that is known of a table has been ingested (UTC, without a zone).

    A month counts with its last delivery as long as something may still have become known after that: until what there
    is of its last day has settled. A month that was left out counts with its beginning.

    Args:
        months: Per month (None of a table without months) the instant of its last delivery; at least one.
        settles_within: How long after a month's end something may still become known of its rows.
        ends: The month after the last that there is; None where data keeps coming.
    """
    if None in months:
        return months[None]
    delivered = {month: instant for month, instant in months.items() if month is not None}
    newest = max(delivered.values())
    still_open = [
        instant for month, instant in delivered.items() if instant < _start(_next_month(month)) + settles_within
    ]
    left_out = min(delivered)
    while left_out in delivered:
        left_out = _next_month(left_out)
    return min([newest, *still_open, *([_start(left_out)] if ends is None or left_out < ends else [])])


def write_instants(lake: Lake, sources: Sources, now: datetime) -> str:
    """Writes until when all is known of a domain's raw tables, or nothing where that is there already.

    Args:
        lake: Where it goes.
        sources: The domain's tables.
        now: What became known later (UTC) isn't used, though it may have been ingested.

    Returns:
        A version of the content: equal content, equal version.
    """
    until = {name: min(at, without_zone(now)) for name, at in tables_until(lake, sources).items()}
    instants = [(f"raw.{name}", at) for name, at in until.items()]
    of_domain = [f"raw.{name}" for name in sources.tables]
    with lake.writing() as connection:
        create_tables(connection)
        if sorted(instants) != [row for row in _rows(connection, INSTANTS) if row[0] in of_domain]:
            connection.execute(f"DELETE FROM {INSTANTS} WHERE name IN (SELECT unnest(?))", [of_domain])
            connection.executemany(f"INSERT INTO {INSTANTS} VALUES (?, ?)", instants)
    return fingerprint(values=sorted(instants))


def write_windows(
    lake: Lake,
    problem: Problem,
    sources: Sources,
    as_of: datetime,
    now: datetime,
    label_tables: Collection[str] | None = None,
) -> str:
    """Writes a problem's windows, and until when its labels are known; or nothing where that is there already.

    Args:
        lake: Where they go.
        problem: Names the windows, relative to the as-of instant.
        sources: Its domain's tables.
        as_of: The instant (UTC) that the split is made as of.
        now: The clock (UTC).
        label_tables: The raw tables that a label is made from; None for all of the domain's. What one of them hasn't
            told yet may still have happened.

    Returns:
        A version of the windows: equal windows, equal version.

    Raises:
        HindcastError: The as-of instant lies in the future: the windows' content would change with every ingestion. Or
            before anything was known.
    """
    until = tables_until(lake, sources)
    known_until = ingested_until(lake, sources, now)
    labels = [min(at, without_zone(now)) for name, at in until.items() if label_tables is None or name in label_tables]
    of_labels = (f"labels.{problem.name}", min(labels, default=without_zone(known_until)))
    if as_of > known_until:
        raise HindcastError(
            f"As of {as_of.isoformat()} can't be known yet: the data goes to {known_until.isoformat()}. "
            "Choose an earlier instant, or ingest first."
        )
    first = first_known(lake, sources)
    if first is not None and as_of < first:
        raise HindcastError(
            f"As of {as_of.isoformat()} nothing was known: the first row of the raw tables became known at "
            f"{first.isoformat()}. Choose a later instant; or say in the sources file since when the rows were known "
            "(known.at), if that was before they were ingested."
        )
    windows = [
        (problem.name, name, without_zone(start), without_zone(end), without_zone(as_of))
        for name, (start, end) in windows_as_of(problem.splits, as_of).items()
    ]
    with lake.writing() as connection:
        create_tables(connection)
        if sorted(windows) != [row for row in _rows(connection, WINDOWS) if row[0] == problem.name]:
            connection.execute(f"DELETE FROM {WINDOWS} WHERE problem = ?", [problem.name])
            connection.executemany(f"INSERT INTO {WINDOWS} VALUES (?, ?, ?, ?, ?)", windows)
        if of_labels not in _rows(connection, INSTANTS):
            connection.execute(f"DELETE FROM {INSTANTS} WHERE name = ?", [of_labels[0]])
            connection.execute(f"INSERT INTO {INSTANTS} VALUES (?, ?)", of_labels)
    return fingerprint(values=windows)


def tables_until(lake: Lake, sources: Sources) -> dict[str, datetime]:
    """Per raw table of a domain until when all that is known of it has been ingested (naive UTC)."""
    if not lake.settings.lake_catalogue.exists():
        return {}
    with lake.reading() as connection:
        if not has_table(connection, INGESTED):
            return {}
        rows = connection.execute(f"SELECT table_name, month, ingested_until FROM {INGESTED} ORDER BY ALL").fetchall()
    months: dict[str, dict[date | None, datetime]] = {}
    for table, month, instant in rows:
        if table in sources.tables:
            months.setdefault(table, {})[month] = instant
    return {table: complete_until(each, sources.settles_within, sources.ends) for table, each in months.items()}


def first_known(lake: Lake, sources: Sources) -> datetime | None:
    """When anything first became known (UTC): the earliest row of a domain's raw tables; None where they have none."""
    if not lake.exists(INGESTED):
        return None
    with lake.reading() as connection:
        found = [
            connection.execute(f'SELECT min(_known_at) FROM raw."{table}"').fetchall()[0][0]
            for table in sources.tables
            if has_table(connection, f"raw.{table}")
        ]
    instants = [instant.replace(tzinfo=UTC) for instant in found if instant is not None]
    return min(instants, default=None)


def set_cap(lake: Lake, instant: datetime | None) -> None:
    """Sets the instant (UTC, without a zone) past which the SQL uses nothing; None takes it out."""
    rows = [(CAP, instant)] if instant else []
    with lake.writing() as connection:
        create_tables(connection)
        if [row for row in _rows(connection, INSTANTS) if row[0] == CAP] != rows:
            connection.execute(f"DELETE FROM {INSTANTS} WHERE name = ?", [CAP])
            for row in rows:
                connection.execute(f"INSERT INTO {INSTANTS} VALUES (?, ?)", row)


def known_until(tables: Collection[str], instants: dict[str, datetime]) -> datetime:
    """Until when all is known (UTC, without a zone) of what is made from some raw tables; of none, the first instant.

    As `known_until_of` in `dbt_project/macros/known.sql`.
    """
    known = [instants[name] for name in (*(f"raw.{table}" for table in tables), CAP) if name in instants]
    return min(known) if tables and known else datetime.min


def read_instants(lake: Lake) -> dict[str, datetime]:
    """The named instants (UTC, without saying so) as the lake has them; none before they were first written."""
    if not lake.settings.lake_catalogue.exists():
        return {}
    with lake.reading() as connection:
        return dict(_rows(connection, INSTANTS))


def read_as_of(lake: Lake, problem: Problem) -> datetime | None:
    """The instant (UTC) that a problem's split is made as of; None before it was first made."""
    windows = read_windows(lake, problem)
    return next(iter(windows.values()))[2] if windows else None


def labels_until(lake: Lake, problem: Problem) -> datetime:
    """Until when (UTC) all is known that a problem's labels are made from.

    Raises:
        HindcastError: It was never written.
    """
    found = read_instants(lake).get(f"labels.{problem.name}")
    if found is None:
        raise HindcastError(
            f"It isn't known yet until when labels of {problem.name} are known: `hindcast run` says it."
        )
    return found.replace(tzinfo=UTC)


def read_windows(
    lake: Lake, problem: Problem, snapshot: int | None = None
) -> dict[str, tuple[datetime, datetime, datetime]]:
    """Per split of a problem the first prediction time that it admits, the end (excluded), and its as-of instant (UTC);
    none before they were first written. At a snapshot of the lake, or at the newest."""
    if not lake.settings.lake_catalogue.exists():
        return {}
    with lake.reading(snapshot) as connection:
        rows = [row[1:] for row in _rows(connection, WINDOWS) if row[0] == problem.name]
    return {
        split: (start.replace(tzinfo=UTC), end.replace(tzinfo=UTC), as_of.replace(tzinfo=UTC))
        for split, start, end, as_of in rows
    }


def instant_as_of(lake: Lake, problem: Problem, asked: str | None, known_until: datetime) -> datetime:
    """The instant (UTC) that the split is to be made as of: what is asked for, else what the lake says already.

    At first, and where a later one is asked for, it is `known_until`: as of then and as of later the same is known,
    and only then will it stay so when more comes in.

    Raises:
        HindcastError: What is asked for isn't an instant with a time zone.
    """
    if asked is None:
        return read_as_of(lake, problem) or known_until
    try:
        instant = datetime.fromisoformat(asked)
    except ValueError as error:
        raise HindcastError(f"as_of: {asked!r} is no instant; write it as 2013-11-01T00:00:00Z.") from error
    if instant.tzinfo is None:
        raise HindcastError(f"as_of: {asked!r} has no time zone; write …Z for UTC.")
    return min(instant.astimezone(UTC), known_until)


def ingested_until(lake: Lake, sources: Sources, now: datetime) -> datetime:
    """Until when all of a domain's raw tables have been ingested (UTC), at most `now`; `now` where there are none.

    Not simply now: an arrival of the last hour that wasn't ingested yet would read as one that never came.
    """
    instants = [instant.replace(tzinfo=UTC) for instant in tables_until(lake, sources).values()]
    return min([now, *instants])


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


def _next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _start(month: date) -> datetime:
    return datetime.combine(month, datetime.min.time())


def _rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[Any, ...]]:
    """A control table's rows, sorted; none before it was first written."""
    if not has_table(connection, table):
        return []
    return sorted(connection.execute(f"FROM {table}").fetchall())
