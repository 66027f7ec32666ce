"""What is asked of the data: key, prediction time, label and when it is known; what isn't given is guessed or asked."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click
import duckdb

from hindcast.errors import HindcastError
from hindcast.scaffold.look import Table
from hindcast.sql import identifier, identifiers
from hindcast.tasks import TASKS
from hindcast.tasks.starter import guess_task, typed_label

if TYPE_CHECKING:
    from datetime import timedelta

_LABEL = re.compile(r"^(label|target|y|outcome|result|class)$|^(is|was|has|will)_|_(flag|label|target|outcome)$", re.I)
_KNOWN = re.compile(r"known|closed|resolved|settled|returned|finished|completed|decided|ended|paid|updated", re.I)


@dataclass
class Given:
    """The options of the command; None where one was left out."""

    key: str | None
    asked_at: str | None
    label: str | None
    known_at: str | None
    known_after: "timedelta | None"
    task: str | None
    corrected_at: str | None = None
    per: Sequence[str] = ()
    known_when_asked: Sequence[str] | None = None
    known_of: dict[str, str] = field(default_factory=dict)


@dataclass
class Question:
    """What is asked, as SQL over the main table.

    Attributes:
        main: The table with one row per entity.
        others: All other tables.
        key: Columns that name an entity.
        asked_at: Instant (UTC) of the prediction time.
        label: 0 or 1, a class's name, or a number.
        known_at: Instant (UTC) at which the label became known; NULL where it never did.
        task: Its name.
        classes: Of a label with classes.
        corrected_at: Instant (UTC) at which a version of a row became known, where the files hold several; else None.
        assumed: What was guessed, for the reader.
    """

    main: Table
    others: list[Table]
    key: tuple[str, ...]
    asked_at: str
    label: str
    known_at: str
    task: str
    classes: tuple[str, ...]
    corrected_at: str | None
    assumed: list[str]


def ask(connection: duckdb.DuckDBPyConnection, tables: Sequence[Table], given: Given, take_guesses: bool) -> Question:
    """Completes what was given: by questions on a terminal, or by guesses where `take_guesses`.

    Raises:
        HindcastError: An expression doesn't run or gives no instant, or something is missing and can't be asked.
    """
    main = _main_table(connection, tables, given)
    assumed: list[str] = []
    answer = _asking(assumed, take_guesses)
    asked_at = _instant(connection, main, "--asked-at", answer("--asked-at", given.asked_at, _guess_time(main)))
    key = _split(answer("--key", given.key, _guess_key(connection, main, asked_at)))
    _check_columns(main, "--key", key)
    corrected_at = given.corrected_at and _instant(connection, main, "--corrected-at", given.corrected_at)
    _check_unique(connection, main, key, corrected_at)
    label = answer("--label", given.label, _guess_label(main, key, asked_at))
    known_at = _known_at(connection, main, given, asked_at, label, assumed, answer)
    values = _values(connection, main, label)
    task = given.task or guess_task(values)
    if task not in TASKS:
        raise HindcastError(f"--task {task}: there are {', '.join(TASKS)}.")
    label, classes, said = typed_label(label, task, values)
    if given.task is None:
        assumed.append(f"--task {task}: the label has {len(values):,}{'+' if len(values) > 1000 else ''} values")
    assumed += said
    others = [table for table in tables if table is not main]
    return Question(main, others, key, asked_at, label, known_at, task, classes, corrected_at, assumed)


def _asking(assumed: list[str], take_guesses: bool) -> Callable[[str, str | None, str | None], str]:
    def answer(option: str, given: str | None, guess: str | None) -> str:
        if given:
            return given
        if take_guesses and guess:
            assumed.append(f"{option} {guess}")
            return guess
        if not take_guesses and sys.stdin.isatty():
            return str(click.prompt(f"{option[2:].replace('-', ' ')} (column or SQL)", default=guess))
        hint = f"; --yes would take {guess}" if guess else ", and nothing in the files looks like it"
        raise HindcastError(f"{option} is missing{hint}.")

    return answer


def _main_table(connection: duckdb.DuckDBPyConnection, tables: Sequence[Table], given: Given) -> Table:
    """The one in which every given expression runs; of several, the first."""
    wanted = [text for text in (given.asked_at, given.label, given.known_at, given.corrected_at) if text]
    faults = []
    for table in tables:
        try:
            columns = [*wanted, *(identifier(column) for column in _split(given.key or ""))]
            connection.execute(f"SELECT {', '.join(columns) or '1'} FROM {identifier(table.name)} LIMIT 0")
            return table
        except duckdb.Error as error:
            faults.append(f"{table.file}: {str(error).splitlines()[0]}")
    raise HindcastError("No file has all that --key, --asked-at, --label and --known-at name. " + "; ".join(faults))


def _instant(connection: duckdb.DuckDBPyConnection, table: Table, option: str, text: str) -> str:
    """The expression, as one that gives a TIMESTAMP."""
    kind = _type(connection, table, option, text)
    if kind == "TIMESTAMP":
        return text
    if kind == "DATE":
        return f"CAST({text} AS TIMESTAMP)"
    raise HindcastError(f"{option} {text}: it gives {kind}, not an instant. Name a column of dates or times, or SQL.")


def _type(connection: duckdb.DuckDBPyConnection, table: Table, option: str, text: str) -> str:
    try:
        row = connection.execute(f"DESCRIBE SELECT {text} AS it FROM {identifier(table.name)}").fetchone()
        connection.execute(f"SELECT count({text}) FROM {identifier(table.name)}")
    except duckdb.Error as error:
        known = ", ".join(table.columns)
        raise HindcastError(f"{option} {text}: {str(error).splitlines()[0]}. {table.file} has: {known}.") from error
    return str(row[1]) if row else ""


def _known_at(
    connection: duckdb.DuckDBPyConnection,
    main: Table,
    given: Given,
    asked_at: str,
    label: str,
    assumed: list[str],
    answer: Callable[[str, str | None, str | None], str],
) -> str:
    if given.known_at and given.known_after is not None:
        raise HindcastError("Give --known-at or --known-after, not both.")
    if given.known_after is not None:
        return f"{asked_at} + to_minutes({int(given.known_after.total_seconds() // 60)})"
    guess = None if given.known_at else _guess_known(connection, main, asked_at)
    if not given.known_at and guess is None:
        assumed.append(
            "--known-after 1d: nothing in the files says when a label became known. If it takes longer, give "
            "--known-at or --known-after: too short an assumption lets the model see the future"
        )
        return f"{asked_at} + to_minutes(1440)"
    text = answer("--known-at", given.known_at, guess)
    if not given.known_at:
        text = _where_nothing_happened(connection, main, text, asked_at, assumed)
    kind = _type(connection, main, "--known-at", text)
    if kind == "DATE":
        assumed.append(f"--known-at {text} has no time of day: taken as known at the day's end")
        return f"CAST({text} AS TIMESTAMP) + INTERVAL 1 DAY"
    return _instant(connection, main, "--known-at", text)


def _where_nothing_happened(
    connection: duckdb.DuckDBPyConnection, main: Table, column: str, asked_at: str, assumed: list[str]
) -> str:
    """A guessed column of instants, where it is missing as long after the question as it ever takes."""
    longest = f"SELECT quantile_disc(date_diff('minute', {asked_at}, {column}), 0.999) FROM {identifier(main.name)}"
    minutes = (connection.execute(longest).fetchone() or (None,))[0]
    if not main.columns[column].missing or minutes is None:
        return column
    text = f"coalesce(CAST({column} AS TIMESTAMP), {asked_at} + to_minutes({minutes}))"
    assumed.append(
        f"--known-at {column}: where it is missing, nothing happened, which is taken as known after {minutes} minutes, "
        "as long as it ever takes otherwise"
    )
    return text


def _guess_time(main: Table) -> str | None:
    """The time column that is hardly ever missing; of several, the first that isn't about an outcome."""
    full = [name for name in main.times if main.columns[name].missing <= main.rows * 0.01]
    return next((name for name in full if not _KNOWN.search(name)), full[0] if full else None)


def _guess_key(connection: duckdb.DuckDBPyConnection, main: Table, asked_at: str) -> str | None:
    unique = [name for name, each in main.columns.items() if each.distinct == main.rows and not each.missing]
    named = [name for name in unique if main.columns[name].type in ("VARCHAR", "INTEGER", "BIGINT")]
    if named:
        return named[0]
    times = [name for name in main.times if name in asked_at]
    for name, each in main.columns.items():
        for time in times:
            if each.type in ("VARCHAR", "INTEGER", "BIGINT") and not each.missing:
                both = f"SELECT count(DISTINCT ({identifiers([name, time])})) FROM {identifier(main.name)}"
                if connection.execute(both).fetchone() == (main.rows,):
                    return f"{name}, {time}"
    return None


def _guess_label(main: Table, key: Sequence[str], asked_at: str) -> str | None:
    usable = [name for name, each in main.columns.items() if name not in key and not each.is_time and each.distinct > 1]
    usable = [name for name in usable if name not in asked_at]
    return next((name for name in usable if _LABEL.search(name)), usable[-1] if usable else None)


def _guess_known(connection: duckdb.DuckDBPyConnection, main: Table, asked_at: str) -> str | None:
    """A time column that is never before the prediction time, and at times after it."""
    for name in sorted(main.times, key=lambda name: not _KNOWN.search(name)):
        later = f"bool_and({identifier(name)} >= {asked_at}), bool_or({identifier(name)} > {asked_at})"
        if connection.execute(f"SELECT {later} FROM {identifier(main.name)}").fetchone() == (True, True):
            return name
    return None


def _values(connection: duckdb.DuckDBPyConnection, main: Table, label: str) -> list[object]:
    """The label's different values, at most 1,001 of them."""
    _type(connection, main, "--label", label)
    found = connection.execute(
        f"SELECT it FROM (SELECT {label} AS it FROM {identifier(main.name)}) WHERE it IS NOT NULL "
        "GROUP BY it ORDER BY count(*) DESC, it LIMIT 1001"
    ).fetchall()
    if len(found) < 2:
        raise HindcastError(f"--label {label}: it has {len(found)} different values; there is nothing to learn.")
    return [value for (value,) in found]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_columns(main: Table, option: str, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in main.columns:
            raise HindcastError(f"{option} {column}: {main.file} has no such column; it has {', '.join(main.columns)}.")


def _check_unique(
    connection: duckdb.DuckDBPyConnection, main: Table, key: Sequence[str], corrected_at: str | None
) -> None:
    named = f"{identifiers(key)}{f', {corrected_at}' if corrected_at else ''}"
    twice = connection.execute(
        f"SELECT {identifiers(key)}, count(*) AS n FROM {identifier(main.name)} GROUP BY {named} HAVING n > 1 "
        "ORDER BY n DESC, 1 LIMIT 1"
    ).fetchone()
    if twice:
        values = ", ".join(map(str, twice[:-1]))
        raise HindcastError(
            f"--key {', '.join(key)}: {values} is on {twice[-1]} rows of {main.file}. Name further columns; or, where "
            "the file holds several versions of a row, say when each became known by --corrected-at."
        )
