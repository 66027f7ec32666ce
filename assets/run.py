"""The main job: which jobs run, in what order, at which instant of the clock, and which of them needn't.

Started as a process of its own (`python -m assets.run`) by `hindcast run` and `hindcast replay`.
A phase is skipped when all of its assets are up to date (`up_to_date.py`).
"""

import argparse
import logging
import os
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import DagsterInstance, Definitions

from assets.inputs import report
from assets.launch import run_job
from assets.progress import failures_of
from assets.turn import turn
from hindcast.clock import SimulatedClock, clock_of
from hindcast.errors import HindcastError
from hindcast.home import prepare
from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.status import collect, keep_failure, keep_stage_seconds, render
from hindcast.tables.sources import Sources, load_sources
from hindcast.tables.windows import BUILT_UNTIL, INSTANTS, read_instants


@dataclass
class Pass:
    """One pass through the graph for one problem in one home, which holds the home's turn.

    Attributes:
        force: Runs every phase, once.
        now: The clock's instant (UTC) that the pass is about.
    """

    settings: Settings
    problem: Problem
    instance: DagsterInstance
    definitions: Definitions
    force: bool
    now: datetime
    seconds: dict[str, float] = field(default_factory=dict)
    ran: int = 0

    def __post_init__(self) -> None:
        self.sources: Sources = load_sources(self.settings.sources_folder / f"{self.problem.sources}.yaml")
        report(self.instance, self.settings, self.problem, self.now)

    def move_clock(self, clock: SimulatedClock, instant: datetime) -> None:
        """Advances the simulated clock to an instant."""
        clock.move_to(instant)
        self.now = instant
        report(self.instance, self.settings, self.problem, self.now)

    def phase(self, job: str, says: str, also: str | None = None, **execution: Any) -> None:
        """Runs a job unless all of its assets are up to date.

        Args:
            job: Its name.
            says: What it does, for who watches.
            also: Another reason to run it; None if there is none.
            execution: Configuration and tags of the run.

        Raises:
            HindcastError: The run failed; the message names the steps and checks.
        """
        reason = also or self._reason(job)
        if reason is None:
            print(f"  = {says}: unchanged", flush=True)
            return
        print(f"  ▸ {says} ({reason})", flush=True)
        self.ran += 1
        config = {"loggers": {"console": {}}} | execution.pop("run_config", {})
        tags = execution.pop("tags", {})
        result = run_job(self.settings, self.instance, self.definitions, job, tags, config)
        self._count_seconds(result)
        if not result.success:
            failed = "\n".join(failures_of(result.all_events)) or f"{job} failed"
            raise HindcastError(f"{failed}\n`hindcast ui` shows run {result.run_id}.")

    def months(self) -> tuple[str, ...]:
        """The partitions that hold what is known by now."""
        return tuple(month.isoformat() for month in self.sources.months(self.now))

    def _reason(self, job: str) -> str | None:
        """Why a job has to run; None if it needn't."""
        if self.force:
            return "asked for"
        from assets.up_to_date import Graph

        assets = self.definitions.resolve_asset_graph()
        stale = Graph(self.settings, self.problem, self.instance, assets, self.months()).stale()
        selected = self.definitions.resolve_job_def(job).asset_layer.selected_asset_keys
        first = next((key for key in assets.toposorted_asset_keys if key in selected and key in stale), None)
        return f"{first.to_user_string()}: {stale[first]}" if first else None

    def _count_seconds(self, result: Any) -> None:
        graph = self.definitions.resolve_asset_graph()
        stage_of = {
            event.step_key: graph.get(event.asset_key).group_name
            for event in result.all_events
            if event.is_step_materialization
        }
        for event in result.all_events:
            if event.is_step_success and event.step_key in stage_of:
                stage = stage_of[event.step_key]
                self.seconds[stage] = self.seconds.get(stage, 0.0) + event.step_success_data.duration_ms / 1000


def run_all(work: Pass, until: datetime | None, data_only: bool = False) -> None:
    """Stands at the as-of instant up to the champion; then lets the clock go on, serves, logs and monitors.

    Args:
        work: The pass.
        until: Where the simulated clock goes; None lets it go where the problem file says, or stay if it is past.
        data_only: Makes the feature tables as of `until` and stops there.
    """
    settings, problem = work.settings, work.problem
    clock = SimulatedClock(settings.clock_file, problem.clock.start) if problem.clock else None
    as_of = _as_of(work)

    def data() -> None:
        months = work.months()
        tags = {}
        if months:
            tags = {"dagster/asset_partition_range_start": months[0], "dagster/asset_partition_range_end": months[-1]}
        says = f"by {work.now:%Y-%m-%d %H:%M} UTC"
        work.phase("ingest", f"bring in what is known {says}", tags=tags)
        config = {"ops": {"control": {"config": {"as_of": as_of.isoformat()}}}}
        split = read_instants(Lake(settings))
        complete = min((at.replace(tzinfo=UTC) for name, at in split.items() if name.startswith("raw.")), default=as_of)
        other = split and split["as_of"].replace(tzinfo=UTC) != min(as_of, complete)
        also = f"{INSTANTS}: as of another instant" if other else None
        work.phase("build", f"clean, label, split, derive features {says}", also, run_config=config)

    if data_only and until and clock:
        work.move_clock(clock, max(until, clock.now()))
        data()
        return
    data()
    work.phase("train", "train, evaluate, package, decide")
    if clock and problem.clock:
        target = max(until or problem.clock.demo_until, clock.now())
        if target > clock.now():
            print(f"  ▸ the clock goes on to {target:%Y-%m-%d %H:%M} UTC", flush=True)
            work.move_clock(clock, target)
            data()
    work.phase("publish", "build the bento, fill the online store")
    work.phase("serve", "serve real requests, log them, score the period")
    work.phase("monitor", "compute again what was served, join labels, report")


def _as_of(work: Pass) -> datetime:
    """The instant (UTC) that the model is made as of: the problem's, or this day's midnight by a wall clock; and never
    before the one that is in use, which a retraining may have set."""
    start = work.problem.clock.start if work.problem.clock else None
    start = start or work.now.replace(hour=0, minute=0, second=0, microsecond=0)
    used = read_instants(Lake(work.settings)).get("as_of")
    return max(start, used.replace(tzinfo=UTC)) if used else start


def _forget_tables(lake: Lake) -> None:
    """Has the SQL rebuild all of its tables."""
    if lake.exists(BUILT_UNTIL):
        with lake.writing() as connection:
            connection.execute(f"DELETE FROM {BUILT_UNTIL}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m assets.run")
    parser.add_argument("--until", type=datetime.fromisoformat)
    parser.add_argument("--data-only", action="store_true", help="stop when the feature tables are made as of --until")
    parser.add_argument("--force", action="store_true", help="run every phase, also where nothing has changed")
    parser.add_argument("--days", type=float, help="let the simulated clock go on by so many days")
    arguments = parser.parse_args()
    settings = Settings.from_environment()
    logging.captureWarnings(True)  # of libraries among themselves; some set the filters anew when they are imported
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    began = time.monotonic()
    try:
        problem = load_problem(settings.problem_file)
        prepare(settings)
        print(f"\n{problem.name}: {problem.question}\nhome: {settings.home}\n", flush=True)

        def say(text: str) -> None:
            print(f"  {text}", flush=True)

        name = f"`hindcast run` (process {os.getpid()})"
        with DagsterInstance.get() as instance, turn(settings, instance, name, say):
            from assets.definitions import build_definitions  # reads the problem's files, in which mistakes may be

            if arguments.force:
                _forget_tables(Lake(settings))
            now = clock_of(settings, problem).now()
            work = Pass(settings, problem, instance, build_definitions(), arguments.force, now)
            until = arguments.until
            if arguments.days and problem.clock:
                until = SimulatedClock(settings.clock_file, problem.clock.start).now() + timedelta(days=arguments.days)
            try:
                run_all(work, until, arguments.data_only)
                keep_failure(settings, None)
            except HindcastError as error:
                keep_failure(settings, str(error))
                raise
            finally:
                keep_stage_seconds(settings, work.seconds)
            # Within the turn, so that it is this pass's state: who is at work is no news.
            status = replace(collect(settings, problem, Lake(settings)), running=None)
    except HindcastError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    if not arguments.data_only:
        render(status, recomputed=work.ran, seconds=time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
