"""Builds the SQL's tables as they were known at each correction, one after the other, where they don't hold that yet.

A history can't be computed from what is known today alone: before a correction, the old value was the known one. So the
tables are built as of just before each correction, then as of the correction, and only then as of now. Usually there
is no correction that the tables don't hold yet, and nothing to do.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.tables.control import CORRECTIONS, HELD, write_control
from hindcast.tables.labels import forget_superseded, keep_former, note_superseded
from hindcast.tables.transform import build, built_until, manifest

_INSTANT = timedelta(microseconds=1)  # the lake's instants are no finer


def catch_up(
    settings: Settings,
    problem: Problem,
    until: datetime,
    as_of: datetime,
    on_progress: Callable[[str], None] = lambda text: None,
) -> list[datetime]:
    """Brings histories and superseded labels past every correction up to an instant.

    Args:
        settings: Names the lake and the SQL.
        problem: Names the labeled table.
        until: What became known later (UTC) isn't used.
        as_of: The instant (UTC) that the split is to be made as of.
        on_progress: Gets a line per step.

    Returns:
        The corrections (UTC) that were passed.

    Raises:
        HindcastError: A model fails.
    """
    lake = Lake(settings)
    corrections = _corrections(lake, until)
    if not corrections:
        return []
    nodes = manifest(settings)["nodes"]
    histories = [
        unique_id
        for unique_id, node in nodes.items()
        if node["config"].get("incremental_strategy") == "history" and node["resource_type"] == "model"
    ]
    labeled = [
        unique_id
        for unique_id, node in nodes.items()
        if node["resource_type"] == "model" and f"{node['schema']}.{node['alias']}" == problem.labeled_table
    ]
    entries = built_until(settings)
    held = [entries.get(unique_id) for unique_id in (*histories, *labeled)]
    known = [instant for instant in held if instant is not None]
    pending = [instant for instant in corrections if len(known) < len(held) or instant > min(known)]
    if not pending:
        note_superseded(lake, problem)  # what a killed process may have left undone
        return []
    if len(known) < len(held) or max(known) >= pending[0]:
        # Some hold less than others: histories can't be taken back, so all begin anew.
        pending = corrections
        forget_superseded(lake, problem)
        if lake.exists(HELD):
            with lake.writing() as connection:
                connection.execute(f"DELETE FROM {HELD} WHERE node IN (SELECT unnest(?))", [[*histories, *labeled]])
    names = [
        node["name"]
        for node in nodes.values()
        if node["resource_type"] in ("model", "seed") and "split" not in node["tags"]
    ]

    def build_as_of(instant: datetime) -> None:
        on_progress(f"building the tables as they were known at {instant:%Y-%m-%d %H:%M:%S.%f} UTC, for a correction")
        write_control(lake, problem, instant, min(as_of, instant))
        failed = [result for result in build(settings, names) if result.failed]
        if failed:
            faults = "; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in failed)
            raise HindcastError(f"As known at {instant.isoformat()}: {faults}")

    for correction in pending:
        at = correction.replace(tzinfo=UTC)
        build_as_of(at - _INSTANT)
        keep_former(lake, problem, correction)
        build_as_of(at)
        note_superseded(lake, problem)
    return [correction.replace(tzinfo=UTC) for correction in pending]


def _corrections(lake: Lake, until: datetime) -> list[datetime]:
    """The instants (UTC, without a zone) at which anything turned out otherwise, oldest first."""
    if not lake.exists(CORRECTIONS):
        return []
    with lake.reading() as connection:
        rows = connection.execute(
            f'SELECT DISTINCT "at" FROM {CORRECTIONS} WHERE "at" <= ? ORDER BY 1',
            [until.astimezone(UTC).replace(tzinfo=None)],
        ).fetchall()
    return [instant for (instant,) in rows]
