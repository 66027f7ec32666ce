"""Windows and clock of a new problem, from the data's dates, and the windows of its histories."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from hindcast.errors import HindcastError
from hindcast.scaffold.question import Question
from hindcast.sql import identifier

_UNITS = {"month": timedelta(days=30), "week": timedelta(weeks=1), "day": timedelta(days=1), "hour": timedelta(hours=1)}
_LENGTHS = {"3h": 180, "1d": 1440, "7d": 10080, "28d": 40320, "91d": 131040, "364d": 524160}
"""Windows of histories: name and minutes."""
_DEMO_ROWS = 1500  # are served in the first run
_LEAST_PER_WINDOW = 3  # rows per key, on average, for a window to say anything


@dataclass(frozen=True)
class Times:
    """Instants are in UTC.

    Attributes:
        start: As-of instant of the first model.
        demo_until: To which the first run advances the clock.
        refresh_every: Of the online store, as a sources file writes it.
        train: Start and end, relative to the as-of instant.
        validation: Likewise.
        test: Likewise.
        matures_within: Until when nearly every label has come, as a problem file writes it.
        monitored: Length of a report's window, likewise.
        rows: Asked before `start`.
        demo_rows: Asked in the demo.
        test_rows: Asked in the test window.
        matured_rows: Asked in the demo, with labels known within it.
        days: Of data before `start`.
    """

    start: datetime
    demo_until: datetime
    refresh_every: str
    train: tuple[str, str]
    validation: tuple[str, str]
    test: tuple[str, str]
    matures_within: str
    monitored: str
    rows: int
    demo_rows: int
    test_rows: int
    matured_rows: int
    days: float


def find_times(connection: duckdb.DuckDBPyConnection, question: Question, as_of: datetime | None) -> Times:
    """Windows that fit the data.

    Args:
        connection: Holds the tables.
        question: What is asked.
        as_of: As-of instant (UTC) of the first model; None for one near the data's end.

    Raises:
        HindcastError: The data is too short or too small, or has nothing before or after `as_of`.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE asked AS SELECT {question.asked_at} AS asked_at, {question.known_at} AS known "
        f"FROM {identifier(question.main.name)} WHERE ({question.label}) IS NOT NULL"
    )
    takes = "quantile_disc(known - asked_at, 0.999)"
    asked = f"SELECT min(asked_at), max(asked_at), count(*), {takes} FROM asked WHERE known IS NOT NULL"
    first, last, rows, longest = connection.execute(asked).fetchone() or (None, None, 0, None)
    if first is None or longest is None or rows < 200:
        raise HindcastError(f"{question.main.file}: {rows} rows with a known label; at least 200 are needed.")
    if longest < timedelta(0):
        raise HindcastError("--known-at: labels are known before they are asked about. Is --asked-at as meant?")
    matures = _round_up(max(longest, timedelta(hours=1)))
    start = as_of or _start(connection, first, last, rows, matures)
    if not first < start < last:
        raise HindcastError(f"--as-of {start:%Y-%m-%d}: the data is asked about from {first} to {last}.")
    demo = _round_up(_demo_length(connection, start, last, matures))
    history = start - first
    unit = next((name for name, length in _UNITS.items() if history / length >= 16), "hour")
    length = _UNITS[unit]
    whole = int(history / length)
    held = max(1, round(whole * 0.1), -(-int(2.5 * matures.total_seconds()) // int(length.total_seconds())))
    if whole < 3 * held + 1:
        raise HindcastError(
            f"{question.main.file}: labels take {matures} to be known, and there are {history.days} days before "
            f"{start:%Y-%m-%d}: too few for training, validation and test windows."
        )

    def count(condition: str) -> int:
        return int((connection.execute(f"SELECT count(*) FROM asked WHERE {condition}").fetchone() or (0,))[0])

    until = start + demo
    return Times(
        start=start,
        demo_until=until,
        refresh_every=_written(max(timedelta(hours=1), _round_up(demo / 24))),
        train=(f"-{whole + 1} {unit}s", f"-{2 * held} {unit}s"),
        validation=(f"-{2 * held} {unit}s", f"-{held} {unit}s"),
        test=(f"-{held} {unit}s", f"0 {unit}s"),
        matures_within=_written(matures),
        monitored=_written(demo),
        rows=count(f"asked_at < '{start}'"),
        demo_rows=count(f"asked_at >= '{start}' AND asked_at < '{until}'"),
        test_rows=count(f"asked_at >= '{start - held * length}' AND asked_at < '{start}' AND known <= '{start}'"),
        matured_rows=count(f"asked_at >= '{start}' AND known <= '{until}'"),
        days=history / timedelta(days=1),
    )


def history_windows(rows_per_key_and_day: float, days: float) -> dict[str, int | None]:
    """Up to three windows that hold a few rows of a key on average and fit twice into the data, and all time.

    Returns:
        Minutes by name; None for everything so far.
    """
    fit = {
        name: minutes
        for name, minutes in _LENGTHS.items()
        if rows_per_key_and_day * minutes / 1440 >= _LEAST_PER_WINDOW and 2 * minutes / 1440 <= days
    }
    names = list(fit)
    chosen = [names[0], names[len(names) // 2], names[-1]] if names else []
    return {**{name: fit[name] for name in dict.fromkeys(chosen)}, "ever": None}


def _start(
    connection: duckdb.DuckDBPyConnection, first: datetime, last: datetime, rows: int, matures: timedelta
) -> datetime:
    """A midnight such that the demo fits behind it and most of the data before."""
    row = connection.execute(
        f"SELECT asked_at FROM asked ORDER BY asked_at DESC LIMIT 1 OFFSET {min(_DEMO_ROWS, rows // 8)}"
    ).fetchone()
    latest = row[0] if row else last
    found: datetime = max(min(latest, last - 1.5 * matures), first + (last - first) * 0.7)
    midnight = found.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight > first + (last - first) * 0.5 else found.replace(minute=0, second=0, microsecond=0)


def _demo_length(
    connection: duckdb.DuckDBPyConnection, start: datetime, last: datetime, matures: timedelta
) -> timedelta:
    row = connection.execute(
        f"SELECT asked_at FROM asked WHERE asked_at >= '{start}' ORDER BY asked_at LIMIT 1 OFFSET {_DEMO_ROWS}"
    ).fetchone()
    served: datetime = row[0] if row else last + timedelta(seconds=1)
    return max(served - start, min(1.5 * matures, last - start), timedelta(hours=1))


def _round_up(length: timedelta) -> timedelta:
    """To whole hours, from two days on to whole days."""
    unit = timedelta(days=1) if length > timedelta(days=2) else timedelta(hours=1)
    return -(-length // unit) * unit


def _written(length: timedelta) -> str:
    hours = int(length.total_seconds() // 3600)
    number, unit = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
    return f"{number} {unit}{'s' if number > 1 else ''}"
