"""From what was seen and asked to what is written: names, feature tables with their columns, and limits that fit."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from hindcast.scaffold.look import Table
from hindcast.scaffold.question import Given, Question
from hindcast.scaffold.roles import Roles, numbers_known_later
from hindcast.scaffold.windows import Times, history_windows
from hindcast.sql import identifier, identifiers
from hindcast.tasks import find_task
from hindcast.tasks.starter import Starter, starter

_KEY, _ASKED, _LABEL, _KNOWN = "entity_key", "prediction_time", "label", "label_known_at"
RESERVED = (_KEY, _ASKED, _LABEL, _KNOWN, "known_at", "event_timestamp", "split")
_FEW_VALUES, _MOST_NUMBERS, _MOST_SLICES = 20, 8, 2
_STEPS = (1440, 720, 360, 180, 60, 30)  # minutes of a grid; each divides a day


@dataclass(frozen=True)
class Value:
    """One aggregate of a feature table: as the macro known_aggregates takes it, and its columns with what they mean."""

    name: str
    aggregate: str
    of: str | None
    windows: dict[str, int | None]
    meaning: str
    type: str = "double"
    towards: float | None = None
    weight: int | None = None

    @property
    def columns(self) -> dict[str, str]:
        """Name and meaning per window."""
        spans = {name: "ever" if minutes is None else f"in the last {name}" for name, minutes in self.windows.items()}
        return {f"{self.name}_{name}": f"{self.meaning}, of what became known {span}." for name, span in spans.items()}


@dataclass(frozen=True)
class FeatureTable:
    """A table of features.

    Attributes:
        name: Of the dbt model and the feature view.
        keys: Column and DuckDB type.
        values: Aggregates; empty where the rows themselves are the features.
        columns: Name, and type and meaning, of features that are columns of the rows.
        source: The staging model.
        step: Minutes of the grid; None for a row at each change.
        description: One sentence, its grain first.
    """

    name: str
    keys: dict[str, str]
    values: tuple[Value, ...]
    columns: dict[str, tuple[str, str]]
    source: str
    step: int | None
    description: str

    @property
    def described(self) -> dict[str, tuple[str, str]]:
        """Type and meaning per feature."""
        aggregates = {name: (value.type, says) for value in self.values for name, says in value.columns.items()}
        return aggregates | self.columns


@dataclass(frozen=True)
class Plan:
    """All that the templates need. Instants are in UTC."""

    name: str
    folder: str
    question: Question
    roles: Roles
    times: Times
    start: Starter
    known_of: dict[str, str]
    histories: tuple[FeatureTable, ...]
    lookups: tuple[FeatureTable, ...]
    request: dict[str, tuple[str, str]]
    slices: tuple[str, ...]
    baseline: tuple[str, ...]

    @property
    def kept(self) -> dict[str, str]:
        """Columns of the main table that the labeled table keeps, with their types."""
        keys = [name for table in (*self.histories, *self.lookups) for name in table.keys]
        names = dict.fromkeys([*self.roles.own, *keys])
        return {name: self.question.main.columns[name].type.lower() for name in names}


def make_plan(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    folder: str,
    question: Question,
    roles: Roles,
    times: Times,
    given: Given,
) -> Plan:
    """Decides what is written.

    Args:
        connection: Holds the tables.
        name: Of the domain and the problem.
        folder: As the sources file names it.
        question: What is asked.
        roles: Of the columns.
        times: Windows and clock.
        given: The options.
    """
    labels = _labels(connection, question, times.start)
    lookups, known_of = [], {}
    for table in question.others:
        if table.name not in roles.joined:
            continue
        short = table.name.removeprefix(f"{name}_")
        told = next((text for called, text in given.known_of.items() if called in (short, table.name)), None)
        known_of[table.name] = told or (_instant(table, table.times[0]) if table.times else "")
        lookups.append(_lookup(name, table, roles.joined[table.name], question.main))
    histories = tuple(_history(connection, name, question, roles, times, key, labels) for key in roles.per)
    few = [
        column
        for column in roles.own
        if question.main.columns[column].type in ("VARCHAR", "BOOLEAN")
        and question.main.columns[column].distinct <= _FEW_VALUES
    ]
    slices = tuple(few[:_MOST_SLICES])
    request = {
        column: (question.main.columns[column].type.lower(), f"{column}, as the request gives it.")
        for column in roles.own
    }
    return Plan(
        name=name,
        folder=folder,
        question=question,
        roles=roles,
        times=times,
        start=starter(question.task, labels),
        known_of={table: text for table, text in known_of.items() if text},
        histories=histories,
        lookups=tuple(lookups),
        request=request,
        slices=slices,
        baseline=tuple(few[:1]) or (roles.per[0] if roles.per else ()),
    )


def _labels(connection: duckdb.DuckDBPyConnection, question: Question, start: datetime) -> list[Any]:
    """Labels that were known at the as-of instant."""
    found = connection.execute(
        f"SELECT {question.label} AS it FROM {identifier(question.main.name)} "
        f"WHERE ({question.label}) IS NOT NULL AND {question.known_at} <= '{start}'"
    ).fetchall()
    return [value for (value,) in found]


def _history(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    question: Question,
    roles: Roles,
    times: Times,
    key: tuple[str, ...],
    labels: list[Any],
) -> FeatureTable:
    main = question.main
    query = f"SELECT count(DISTINCT ({identifiers(key)})) FROM {identifier(main.name)}"
    keys = int((connection.execute(query).fetchone() or (1,))[0]) or 1
    windows = history_windows(times.rows / keys / times.days, times.days)
    prefix = "_".join(key).lower()
    whose = f"the same {' and '.join(key)}"
    task = find_task(question.task, question.classes)
    means = task.means(task.labels(labels)).mean(axis=0)
    values = [Value(f"{prefix}_known", "count", None, windows, f"Labels of {whose}", type="bigint")]
    if question.classes:
        for at, label in enumerate(question.classes[:6]):
            word, quoted = re.sub(r"\W+", "_", label).lower(), label.replace("'", "''")
            of, meaning = f"cast(label = '{quoted}' as integer)", f"Share of {label} of {whose}"
            values.append(Value(f"{prefix}_{word}", "smoothed", of, windows, meaning, "double", _short(means[at]), 10))
    else:
        mean, meaning = _short(float(sum(map(float, labels)) / len(labels))), f"Mean label of {whose}"
        values.append(Value(f"{prefix}_label", "smoothed", "label", windows, meaning, "double", mean, 10))
        values.append(Value(f"{prefix}_last", "last", "label", {"ever": None}, f"Last label of {whose}"))
    for column in numbers_known_later(question, roles):
        of, meaning = f"{plain(column)}", f"Mean {column} of {whose}"
        values.append(Value(f"{prefix}_{column.lower()}", "mean", of, windows, meaning))
    finite = [minutes for minutes in windows.values() if minutes]
    step = _step(keys, times, len(finite), min(finite)) if finite else None
    return FeatureTable(
        f"{name}_by_{prefix}",
        {column: main.columns[column].type.lower() for column in key},
        tuple(values),
        {},
        f"stg_{main.name}",
        step,
        f"One row per {' and '.join(key)} and {'grid point' if step else 'change'}: the labels known of it by then.",
    )


def _step(keys: int, times: Times, windows: int, shortest: int) -> int | None:
    """Minutes of a grid of at most as many rows as a row per change would give; None where there is no such."""
    fit = [step for step in _STEPS if 3 * step <= shortest and shortest % step == 0]
    if not fit:
        return None
    step = fit[-1] if 6 * fit[-1] > shortest else next(step for step in fit if 6 * step <= shortest)
    return step if keys * times.days * 1440 / step <= times.rows * (1 + windows) else None


def _lookup(name: str, table: Table, shared: tuple[str, ...], main: Table) -> FeatureTable:
    short = table.name.removeprefix(f"{name}_")
    columns = {
        f"{short}_{column.name.lower()}": (column.type.lower(), f"{column.name} of {table.file}.")
        for column in table.columns.values()
        if column.name not in main.columns and not column.is_time and column.distinct > 1
        and (column.is_number or column.distinct <= 500)
    }  # fmt: skip
    return FeatureTable(
        f"{table.name}_latest" if table.times else f"{table.name}_attributes",
        {column: table.columns[column].type.lower() for column in shared},
        (),
        columns,
        f"stg_{table.name}",
        None,
        f"One row per {' and '.join(shared)}"
        + (" and instant at which something became known." if table.times else "."),
    )


def _instant(table: Table, column: str) -> str:
    """When a row of another table is taken as known: at its time, a whole day at its end."""
    return f"{plain(column)} + INTERVAL 1 DAY" if table.columns[column].type == "DATE" else plain(column)


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def plain(name: str) -> str:
    """A column's name in SQL, in quotes only where it needs them."""
    words = duckdb.execute(
        "SELECT count(*) FROM duckdb_keywords() WHERE keyword_name = lower(?) AND keyword_category = 'reserved'", [name]
    )
    reserved = (words.fetchone() or (0,))[0]
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not reserved else identifier(name)
