"""Builds the SQL's tables as they were known at each correction, one after the other, where they don't hold that yet.

A history can't be computed from what is known today alone: before a correction, the old value was the known one. So the
tables are built as of just before each correction, then as of the correction, and only then as of now. Usually there
is no correction that the tables don't hold yet, and nothing to do.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.tables.control import CORRECTIONS, known_until, read_instants, set_cap
from hindcast.tables.freshness import raw_tables
from hindcast.tables.labels import forget_superseded, keep_former, note_superseded
from hindcast.tables.transform import build, built_until, manifest

_TABLES = ("model", "seed")
_FIRST = datetime.min
_INSTANT = timedelta(microseconds=1)  # the lake's instants are no finer


def catch_up(settings: Settings, problem: Problem, on_progress: Callable[[str], None] = lambda text: None) -> int:
    """Brings histories and superseded labels past every correction up to the instants of `control`.

    Whatever it builds then holds what is known at these instants, too. Killed at any point, it does the rest next time.

    Args:
        settings: Names the lake and the SQL.
        problem: Names the labeled table.
        on_progress: Gets a line per step.

    Returns:
        How many corrections were passed.

    Raises:
        HindcastError: A model fails.
    """
    lake = Lake(settings)
    set_cap(lake, None)  # a killed process may have left one
    corrections = _corrections(lake)
    if not corrections:
        return 0
    described = manifest(settings)
    nodes = {name: node for name, node in described["nodes"].items() if node["resource_type"] in _TABLES}
    instants, entries, made_from = read_instants(lake), built_until(settings), raw_tables(described)

    def pending(unique_id: str) -> set[datetime]:
        """The corrections, of what a table is made from, that it hasn't been built past."""
        tables = made_from[unique_id]
        until = known_until(tables, instants)
        return {at for table, at in corrections if table in tables and entries.get(unique_id, _FIRST) < at <= until}

    labeled = next(name for name, node in nodes.items() if _table(node) == problem.labeled_table)
    histories = {
        name: pending(name) for name, node in nodes.items() if node["config"].get("incremental_strategy") == "history"
    }
    states = [node["name"] for name, node in nodes.items() if name not in histories and "split" not in node["tags"]]
    of_labels = pending(labeled)
    passed = sorted(of_labels.union(*histories.values()))
    if labeled not in entries:
        forget_superseded(lake, problem)  # it is built from nothing
    for correction in passed:
        names = [*states, *(nodes[name]["name"] for name, each in histories.items() if correction in each)]
        for instant in (correction - _INSTANT, correction):
            on_progress(f"building the tables as they were known at {instant} UTC, for a correction")
            set_cap(lake, instant)
            _build(settings, names)
            if correction in of_labels:
                keep_former(lake, problem) if instant < correction else note_superseded(lake, problem, correction)
    if passed:
        set_cap(lake, None)
        _build(settings, [*states, *(nodes[name]["name"] for name in histories)])
    return len(passed)


def _build(settings: Settings, names: list[str]) -> None:
    failed = [result for result in build(settings, names) if result.failed]
    if failed:
        faults = "; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in failed)
        raise HindcastError(f"A table can't be built as it was known at a correction: {faults}")


def _corrections(lake: Lake) -> list[tuple[str, datetime]]:
    """Raw tables, and the instants (UTC, without a zone) at which something in them turned out otherwise."""
    if not lake.exists(CORRECTIONS):
        return []
    with lake.reading() as connection:
        return connection.execute(f'SELECT DISTINCT table_name, "at" FROM {CORRECTIONS} ORDER BY ALL').fetchall()


def _table(node: dict[str, Any]) -> str:
    return f"{node['schema']}.{node['alias']}"
