"""Runs of one home take turns, and runs whose process is gone are ended. No run computes anything before its turn.

Both rest on locks that the kernel frees when their holder dies: one of the home, held by the run whose turn it is,
and one of each run, held for as long as its process lives.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from hindcast.clock import WallClock
from hindcast.errors import HindcastError
from hindcast.files import try_lock, write_atomically
from hindcast.settings import Settings

_POLL_SECONDS = 0.5
_LAUNCH = timedelta(minutes=5)
"""How long a run may take from its record to its own lock: its process imports the graph first."""
_NOT_TO_RUN = {DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED, DagsterRunStatus.FAILURE}

_within_process = threading.RLock()
_depth = 0
_alive: dict[str, TextIO] = {}
"""The locks of this process's runs. One is kept past its run's last step: only then does Dagster record its end."""


def mark_alive(settings: Settings, run_id: str) -> None:
    """Takes a run's own lock, and keeps it until `mark_ended` or this process's end."""
    if run_id not in _alive:
        file = try_lock(settings.run_locks / run_id)
        if file is None:
            raise HindcastError(f"Run {run_id} is executed by another process.")
        _alive[run_id] = file


def mark_ended(settings: Settings, run_id: str) -> None:
    """Frees a run's own lock; its end must have been recorded."""
    if run_id in _alive:
        (settings.run_locks / run_id).unlink(missing_ok=True)
        _alive.pop(run_id).close()


@contextmanager
def turn(
    settings: Settings,
    instance: DagsterInstance,
    name: str,
    say: Callable[[str], object],
    run: DagsterRun | None = None,
) -> Iterator[bool]:
    """Waits for the home's turn and holds it; a process that holds it already doesn't wait.

    Then it ends the records of runs that died.

    Args:
        settings: Of the home.
        instance: Keeps the records of runs.
        name: What is shown to who waits.
        say: Told who has the turn while this waits for it.
        run: The run that waits; it gives up when it is terminated.

    Yields:
        Whether this took the turn, rather than had it already.

    Raises:
        HindcastError: The run was ended while it waited.
    """
    global _depth
    with _within_process:
        if _depth:
            yield False
            return
        with _waiting(settings, instance, say, run):
            write_atomically(settings.turn_holder, name)
            _depth = 1
            try:
                end_dead_runs(settings, instance)
                if run is not None and _ended(instance, run):
                    raise HindcastError(f"Run {run.run_id} was ended while it waited for its turn.")
                yield True
            finally:
                _depth = 0
                settings.turn_holder.unlink(missing_ok=True)


def end_dead_runs(settings: Settings, instance: DagsterInstance) -> None:
    """Ends the records of runs whose process is gone, and frees what they held. Only who has the turn may call it."""
    known = {path.name for path in settings.run_locks.glob("*")}
    statuses = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
    unfinished = {
        record.dagster_run.run_id: record
        for record in instance.get_run_records(RunsFilter(statuses=[*statuses, DagsterRunStatus.CANCELING]))
    }
    for run_id in known | set(unfinished):
        record = unfinished.get(run_id)
        if run_id in known:
            lock = try_lock(settings.run_locks / run_id)
            if lock is None:
                continue  # it lives
            (settings.run_locks / run_id).unlink(missing_ok=True)
            lock.close()
        elif record and WallClock().now() - record.update_timestamp < _LAUNCH:
            continue  # it is being launched, and holds nothing yet
        if record:
            instance.report_run_failed(record.dagster_run, "The process that ran this was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)


@contextmanager
def _waiting(
    settings: Settings, instance: DagsterInstance, say: Callable[[str], object], run: DagsterRun | None
) -> Iterator[None]:
    told = None
    while (lock := try_lock(settings.turn)) is None:
        holder = settings.turn_holder.read_text() if settings.turn_holder.exists() else None
        if holder and holder != told:
            say(f"waiting for {holder}")
            told = holder
        if run is not None and _ended(instance, run):
            raise HindcastError(f"Run {run.run_id} was ended while it waited for its turn.")
        time.sleep(_POLL_SECONDS)
    with lock:
        yield


def _ended(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether a run was terminated. False for a run without a record, as in a test."""
    recorded = instance.get_run_by_id(run.run_id)
    return recorded is not None and recorded.status in _NOT_TO_RUN
