"""Which column may be used how: known when asked, known only with the label, a key with a history. Reads the tables."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl

from hindcast.errors import HindcastError
from hindcast.evaluation.leak_checks import feature_roc_auc
from hindcast.scaffold.look import Table
from hindcast.scaffold.question import Given, Question
from hindcast.sql import identifier, identifiers
from hindcast.tasks import find_task

_TELLING = 0.92  # area under the ROC curve of a single column that nobody has before the label is known
_MOST_CATEGORIES = 500
_SAMPLE = 50_000
MADE_OF_LABEL = "the label is made of it"


@dataclass(frozen=True)
class Roles:
    """Columns of the main table, and how the other tables are joined.

    Attributes:
        own: Known when asked, and features.
        later: Known only with the label.
        why_later: Per column of `later`, the reason.
        telling: Per numeric column of `later`, the area under the ROC curve by which it alone tells the label.
        per: Keys, of one or several columns, that get a history of the label.
        unused: Neither: texts with too many values, further instants.
        joined: Per other table that is used, the shared columns by which it is looked up.
        ignored: Per other table that isn't, the reason.
    """

    own: list[str]
    later: list[str]
    why_later: dict[str, str]
    telling: dict[str, float]
    per: list[tuple[str, ...]]
    unused: list[str]
    joined: dict[str, tuple[str, ...]]
    ignored: dict[str, str]


def find_roles(connection: duckdb.DuckDBPyConnection, question: Question, given: Given) -> Roles:
    """Guesses what each column is, on the side of caution: what may tell of the label counts as known later.

    Raises:
        HindcastError: A named column isn't there.
    """
    main = question.main
    per = [tuple(part.strip() for part in re.split(r"[,+]", text)) for text in given.per]
    for column in [*(name for key in per for name in key), *(given.known_when_asked or ())]:
        if column not in main.columns:
            raise HindcastError(f"{column}: {main.file} has no such column; it has {', '.join(main.columns)}.")
    why = _why_later(connection, question, given.known_when_asked)
    keys_of_others = {name for table in question.others for name in table.columns if name in main.columns}
    own, unused = [], []
    for name, column in main.columns.items():
        if name in why or (given.known_when_asked is not None and name not in given.known_when_asked):
            continue
        is_id = column.distinct == main.rows and not (column.is_number and column.type == "DOUBLE")
        many = column.type == "VARCHAR" and column.distinct > _MOST_CATEGORIES
        if column.is_time or is_id or many or column.distinct < 2 or column.missing == main.rows:
            if name not in (*question.key, *re.findall(r"\w+", question.asked_at)):
                unused.append(name)
        else:
            own.append(name)
    joined: dict[str, tuple[str, ...]] = {}
    ignored: dict[str, str] = {}
    for table in question.others:
        shared = tuple(
            name
            for name in table.columns
            if name in main.columns and name not in why and not table.columns[name].is_time
        )
        if table.times:
            shared = tuple(name for name in shared if not _part_of_time(connection, table, name))
        reason = _why_not_joined(connection, table, shared)
        ignored |= {table.name: reason} if reason else {}
        joined |= {} if reason else {table.name: shared}
    per = per or _guess_histories(question, why, keys_of_others)
    later = [name for name in main.columns if name in why]
    telling = _telling(connection, question, [name for name in later if main.columns[name].is_number])
    return Roles(own, later, why, telling, per, unused, joined, ignored)


def _why_later(
    connection: duckdb.DuckDBPyConnection, question: Question, known_when_asked: Sequence[str] | None
) -> dict[str, str]:
    main = question.main
    found: dict[str, str] = {}
    used = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", question.label))
    for name in main.columns:
        if name in used:
            found[name] = MADE_OF_LABEL
    if known_when_asked is not None:
        return found | {
            name: "not listed in --known-when-asked"
            for name in main.columns
            if name not in (*known_when_asked, *question.key) and name not in found
        }
    dated = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", question.corrected_at or ""))
    columns = [name for name in main.columns if name not in found and name not in (*question.key, *dated)]
    rows = _sample(connection, question, columns)
    for name in columns:
        values, column = rows[name], main.columns[name]
        if column.is_time:
            if (
                name not in re.findall(r"\w+", question.asked_at)
                and (values.cast(pl.Datetime("us")) > rows["_asked"].cast(pl.Datetime("us"))).sum()
            ):
                found[name] = "an instant after the prediction time"
            continue
        missing = values.is_null()
        if 20 <= missing.sum() < len(values) and rows["_label"].filter(missing).n_unique() == 1:
            found[name] = "where it is missing, the label is always the same"
        elif name not in question.asked_at:
            area = _area(question, rows["_label"], values)
            if area > _TELLING:
                found[name] = f"alone it tells the label (ROC AUC {area:.2f})"
    return found


def _telling(connection: duckdb.DuckDBPyConnection, question: Question, columns: list[str]) -> dict[str, float]:
    rows = _sample(connection, question, columns)
    found = {}
    for name in columns:
        known = rows.filter(pl.col(name).is_not_null())
        if known["_label"].n_unique() > 1:
            found[name] = _area(question, known["_label"], known[name])
    return found


def _sample(connection: duckdb.DuckDBPyConnection, question: Question, columns: Sequence[str]) -> pl.DataFrame:
    """Rows with a label, spread by their keys' hashes: `_label`, `_asked` and columns."""
    chosen = "".join(f", {identifier(column)}" for column in columns)
    return connection.execute(
        f"SELECT {question.label} AS _label, {question.asked_at} AS _asked{chosen} "
        f"FROM {identifier(question.main.name)} WHERE ({question.label}) IS NOT NULL "
        f"ORDER BY hash(({identifiers(question.key)})) LIMIT {_SAMPLE}"
    ).pl()


def _area(question: Question, labels: pl.Series, values: pl.Series) -> float:
    """The highest area under the ROC curve of any of the label's events by one column."""
    task = find_task(question.task, question.classes)
    events = task.events(task.labels(labels.to_numpy())).values()
    return max(feature_roc_auc(values, event.astype(np.int64)) for event in events)


def _part_of_time(connection: duckdb.DuckDBPyConnection, table: Table, column: str) -> bool:
    """Whether a column says no more than the table's time, as its year or hour: no key, as the latest row is wanted."""
    time = table.times[0]
    both, alone = f"count(DISTINCT ({identifiers([time, column])}))", f"count(DISTINCT {identifier(time)})"
    return connection.execute(f"SELECT {both} = {alone} FROM {identifier(table.name)}").fetchone() == (True,)


def _why_not_joined(connection: duckdb.DuckDBPyConnection, table: Table, shared: Sequence[str]) -> str:
    if not shared:
        return "it shares no column with the main file that is more than a part of its time"
    if table.times:
        return ""
    query = f"SELECT count(DISTINCT ({identifiers(shared)})) FROM {identifier(table.name)}"
    if connection.execute(query).fetchone() != (table.rows,):
        return f"it has no times, and several rows for one {', '.join(shared)}"
    return ""


def _guess_histories(question: Question, why: dict[str, str], shared: set[str]) -> list[tuple[str, ...]]:
    """Up to three columns whose values come back, those with the most values first: a customer, a product, a shop."""
    main, found = question.main, []
    whole_key = question.key if len(question.key) == 1 else ()
    for name, column in main.columns.items():
        texts = column.type in ("VARCHAR", "INTEGER", "BIGINT")
        if not texts or name in why or name in whole_key or column.distinct < 3 or column.missing > main.rows * 0.2:
            continue
        if column.type != "VARCHAR" and name not in (*question.key, *shared) and not re.search(r"id$|code$|_no$", name):
            continue
        if main.rows / column.distinct >= 3:
            found.append(name)
    found.sort(key=lambda name: -main.columns[name].distinct)
    return [(name,) for name in found[:3]]


def numbers_known_later(question: Question, roles: Roles) -> list[str]:
    """At most three numeric columns known with the label whose means are worth a feature, the most telling first."""
    columns = question.main.columns
    usable = [
        name
        for name in roles.later
        if columns[name].is_number and columns[name].distinct > 10 and not question.label.startswith(f"CAST({name} AS ")
    ]
    return sorted(usable, key=lambda name: -roles.telling.get(name, 0.5))[:3]
