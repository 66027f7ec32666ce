"""Builds the SQL's tables as they were known at each correction, one after the other, where they don't hold that yet.

A history can't be computed from what is known today alone: before a correction, the old value was the known one. So the
tables are built as of just before each correction, then as of the correction, and only then as of now. Usually there
is no correction that the tables don't hold yet, and nothing to do.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.tables.control import CORRECTIONS, tables_until, write_control
from hindcast.tables.held import raw_tables
from hindcast.tables.labels import forget_superseded, keep_former, note_superseded
from hindcast.tables.transform import build, built_until, manifest

_TABLES = ("model", "seed")
_INSTANT = timedelta(microseconds=1)  # the lake's instants are no finer


def catch_up(
    settings: Settings,
    problem: Problem,
    until: datetime,
    as_of: datetime,
    ends: date | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> list[datetime]:
    """Brings histories and superseded labels past every correction up to an instant.

    Args:
        settings: Names the lake and the SQL.
        problem: Names the labeled table.
        until: What became known later (UTC) isn't used.
        as_of: The instant (UTC) that the split is to be made as of.
        ends: The month after the last that the sources have; None where data keeps coming.
        on_progress: Gets a line per step.

    Returns:
        The corrections (UTC) that were passed.

    Raises:
        HindcastError: A model fails.
    """
    lake = Lake(settings)
    corrections = _corrections(lake)
    if not corrections:
        return []
    nodes = {name: node for name, node in manifest(settings)["nodes"].items() if node["resource_type"] in _TABLES}
    known_until = {name: min(at, _naive(until)) for name, at in tables_until(lake, problem, ends).items()}
    entries, made_from = built_until(settings), raw_tables(manifest(settings))

    def pending(unique_id: str) -> set[datetime]:
        """The corrections, of what a table is made from, that it hasn't been built past."""
        tables = made_from[unique_id]
        complete = min((known_until[table] for table in tables if table in known_until), default=datetime.min)
        entry = entries.get(unique_id, datetime.min)
        return {at for table, at in corrections if table in tables and entry < at <= complete}

    labeled = next(name for name, node in nodes.items() if _table(node) == problem.labeled_table)
    histories = {
        name: pending(name) for name, node in nodes.items() if node["config"].get("incremental_strategy") == "history"
    }
    states = [node["name"] for name, node in nodes.items() if name not in histories and "split" not in node["tags"]]
    of_labels = pending(labeled)
    if labeled not in entries:
        forget_superseded(lake, problem)  # it is built from nothing
    passed = sorted(of_labels.union(*histories.values()))
    for correction in passed:
        names = [*states, *(nodes[name]["name"] for name, instants in histories.items() if correction in instants)]
        for instant in (correction - _INSTANT, correction):
            on_progress(f"building the tables as they were known at {instant} UTC, for a correction")
            at = instant.replace(tzinfo=UTC)
            write_control(lake, problem, at, min(as_of, at), ends=ends)
            _build(settings, names, at)
            if correction in of_labels:
                keep_former(lake, problem) if instant < correction else note_superseded(lake, problem, correction)
    return [correction.replace(tzinfo=UTC) for correction in passed]


def _build(settings: Settings, names: list[str], at: datetime) -> None:
    failed = [result for result in build(settings, names) if result.failed]
    if failed:
        faults = "; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in failed)
        raise HindcastError(f"As known at {at.isoformat()}: {faults}")


def _corrections(lake: Lake) -> list[tuple[str, datetime]]:
    """Raw tables, and the instants (UTC, without a zone) at which something in them turned out otherwise."""
    if not lake.exists(CORRECTIONS):
        return []
    with lake.reading() as connection:
        return connection.execute(f'SELECT DISTINCT table_name, "at" FROM {CORRECTIONS} ORDER BY ALL').fetchall()


def _table(node: dict[str, Any]) -> str:
    return f"{node['schema']}.{node['alias']}"


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)
