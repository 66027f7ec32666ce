"""The main job: which jobs run, in what order, at which instant of the clock, and which of them needn't.

Started as a process of its own (`python -m assets.run`) by `hindcast run` and `hindcast replay`.
Of a phase, assets that are up to date are left out (`up_to_date.py`).
"""

import argparse
import logging
import os
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dagster import AssetCheckKey, AssetKey, DagsterInstance, Definitions

from assets.control import windows_key
from assets.inputs import report
from assets.launch import run_job
from assets.progress import failures_of
from assets.turn import turn
from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.home import prepare
from hindcast.settings import Settings
from hindcast.status import collect, keep_failure, keep_stage_seconds, render
from hindcast.tables.transform import domain_of, manifest
from hindcast.tables.windows import BUILT_UNTIL, ingested_until, read_as_of
from hindcast.workspace import Catalogue, Domain, Workspace, load_catalogue

if TYPE_CHECKING:
    from assets.up_to_date import Graph

_LEAK_ROWS = 30_000  # at most, each careless model of the first run is fitted to
_STAGES = {
    "control": {"windows"},
    "features": {"feature_views", "feature_history"},
    "train": {"training_set", "candidates"},
    "evaluate": {"evaluation"},
    "package": {"model_package", "verdict", "champion"},
    "serve": {"online_store", "bento", "served_requests"},
    "score": {"batch_predictions"},
    "log": {"requests", "shadow_requests"},
    "monitor": {"labeled_requests", "serving_parity", "monitoring_report"},
}
"""What the final screen calls a stage, and the assets of it that are called otherwise."""


@dataclass
class Pass:
    """One pass through the graph for one problem in one home, which holds the home's turn.

    Attributes:
        force: Runs every phase, once.
    """

    workspace: Workspace
    catalogue: Catalogue
    instance: DagsterInstance
    definitions: Definitions
    force: bool
    seconds: dict[str, float] = field(default_factory=dict)
    ran: int = 0
    _state: "Graph | None" = None
    """What is up to date, as long as nothing has run and the clock hasn't moved."""

    def __post_init__(self) -> None:
        report(self.instance, self.catalogue, self.workspace.domain.name)

    @property
    def now(self) -> datetime:
        """The clock's instant (UTC) that the pass is about."""
        return self.workspace.clock.now()

    def advance_clock(self, clock: SimulatedClock, instant: datetime) -> None:
        """Advances the simulated clock to an instant."""
        clock.move_to(instant)
        report(self.instance, self.catalogue, self.workspace.domain.name)
        self._state = None

    def phase(self, job: str, says: str, tags: dict[str, str] | None = None) -> None:
        """Runs of a job what isn't up to date, and what is made from that.

        Args:
            job: Its name.
            says: What it does, for who watches.
            tags: Of the run.

        Raises:
            HindcastError: The run failed; the message names the steps and checks.
        """
        assets, checks, reason = self._to_do(job)
        if reason is None:
            print(f"  = {says}: unchanged", flush=True)
            return
        print(f"  ▸ {says} ({reason})", flush=True)
        self.ran += 1
        self._state = None
        config: dict[str, Any] = {"loggers": {"console": {}}}
        if self.windows in assets:
            used = read_as_of(self.workspace.lake, self.workspace.problem)
            windows = {"config": {"as_of": as_of(self.workspace, used).isoformat()}}
            config["ops"] = {f"{self.workspace.problem.name}__windows": windows}
        settings = self.workspace.settings
        result = run_job(settings, self.instance, self.definitions, job, tags or {}, config, assets, checks)
        self._count_seconds(result)
        if not result.success:
            failed = "\n".join(failures_of(result.all_events)) or f"{job} failed"
            raise HindcastError(f"{failed}\n`hindcast ui` shows run {result.run_id}.")

    def months(self) -> tuple[str, ...]:
        """The partitions that hold what is known by now."""
        return tuple(month.isoformat() for month in self.workspace.sources.months(self.now))

    @property
    def windows(self) -> AssetKey:
        return windows_key(self.workspace.problem.name)

    def _to_do(self, job: str) -> tuple[set[AssetKey], set[AssetCheckKey], str | None]:
        """The assets and checks of a job that have to be made, and why; None where there is nothing to do."""
        from assets.up_to_date import Graph

        graph = self.definitions.resolve_asset_graph()
        self._state = self._state or Graph(self.workspace, self.instance, graph, self.months())
        selected = set(self.definitions.resolve_job_def(job).asset_layer.selected_asset_keys)
        stale = dict.fromkeys(selected, "asked for") if self.force else self._state.stale(selected)
        if self.windows in selected and not stale.get(self.windows) and self._other_instant():
            stale[self.windows] = "as of another instant"
        others = self._state.checks_of_other_limits(selected - set(stale))
        if not stale and not others:
            return set(), set(), None
        assets: set[AssetKey] = set()
        for key in graph.toposorted_asset_keys:
            if key in stale or (key in selected and graph.get(key).parent_keys & assets):
                assets |= {key, *(selected & graph.get(key).execution_set_asset_keys)} if key in stale else {key}
        checks = {check for check in graph.asset_check_keys if check.asset_key in assets}
        first = next((key for key in graph.toposorted_asset_keys if key in stale), None)
        why = f"{first.to_user_string()}: {stale[first]}" if first else f"{others[0].name}: other limits"
        return assets, checks.union(others), why

    def _other_instant(self) -> bool:
        used, domain = read_as_of(self.workspace.lake, self.workspace.problem), self.workspace.domain
        known_until = ingested_until(domain.lake, domain.sources, self.now)
        return used is not None and used != min(as_of(self.workspace, used), known_until)

    def _count_seconds(self, result: Any) -> None:
        stages = {
            event.step_key: self._stage(event.asset_key) for event in result.all_events if event.is_step_materialization
        }
        for event in result.all_events:
            if event.is_step_success and event.step_key in stages:
                stage = stages[event.step_key]
                self.seconds[stage] = self.seconds.get(stage, 0.0) + event.step_success_data.duration_ms / 1000

    def _stage(self, key: AssetKey) -> str:
        name = key.path[1] if key.path[0] == self.workspace.problem.name else key.path[0]
        return next((stage for stage, names in _STAGES.items() if name in names), name)


def run_all(work: Pass, until: datetime | None) -> None:
    """Stands at the as-of instant up to the champion; then advances the clock, serves, logs and monitors.

    Args:
        work: The pass.
        until: The instant to which the simulated clock is advanced; None for the `demo_until` of the sources file. A
            clock that is past it stays.
    """
    workspace, of, simulated = work.workspace, work.workspace.problem.name, work.workspace.sources.clock
    clock = workspace.clock

    def data() -> None:
        months = work.months()
        tags = {}
        if months:
            tags = {"dagster/asset_partition_range_start": months[0], "dagster/asset_partition_range_end": months[-1]}
        says = f"by {work.now:%Y-%m-%d %H:%M} UTC"
        work.phase(f"{workspace.domain.name}_ingest", f"ingest what is known {says}", tags=tags)
        work.phase(f"{of}_build", f"clean, label, split, derive features {says}")

    data()
    work.phase(f"{of}_train", "train, evaluate, package, decide")
    if simulated and isinstance(clock, SimulatedClock):
        target = max(until or simulated.demo_until, clock.now())
        if target > clock.now():
            print(f"  ▸ the clock advances to {target:%Y-%m-%d %H:%M} UTC", flush=True)
            work.advance_clock(clock, target)
            data()
    work.phase(f"{of}_publish", "build the bento, fill the online store")
    work.phase(f"{of}_serve", "serve real requests, log them, score the period")
    work.phase(f"{of}_monitor", "compute again what was served, join labels, report")


def as_of(workspace: Workspace, used: datetime | None) -> datetime:
    """The instant (UTC) that the model is made as of: the clock's start, or this day's midnight by a wall clock; and
    never before the one that is in use (None: there is none yet), which a retraining may have set."""
    simulated = workspace.sources.clock
    start = simulated.start if simulated else None
    start = start or workspace.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return max(start, used) if used else start


def _forget_tables(domain: Domain) -> None:
    """Has the SQL rebuild all of a domain's tables."""
    described = manifest(domain.settings)
    nodes = {**described["nodes"], **described["unit_tests"]}
    of_domain = [name for name, node in nodes.items() if domain_of(node) == domain.name]
    if domain.lake.exists(BUILT_UNTIL):
        with domain.lake.writing() as connection:
            connection.execute(f"DELETE FROM {BUILT_UNTIL} WHERE node IN (SELECT unnest(?))", [of_domain])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m assets.run")
    parser.add_argument("--until", type=datetime.fromisoformat)
    parser.add_argument("--force", action="store_true", help="run every phase, also where nothing has changed")
    parser.add_argument("--leaks", action="store_true", help="after a first run, measure what leaks are worth")
    parser.add_argument("--days", type=float, help="let the simulated clock advance by so many days")
    arguments = parser.parse_args()
    settings = Settings.from_environment()
    logging.captureWarnings(True)  # of libraries among themselves; some set the filters anew when they are imported
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    began = time.monotonic()
    try:
        prepare(settings)
        from hindcast.checking.check import check_once  # brings numpy, which reads the home's environment

        check_once(settings)
        catalogue = load_catalogue(settings)
        workspace = catalogue.workspaces[settings.problem]
        settings.of_problem.mkdir(parents=True, exist_ok=True)
        print(f"\n{workspace.problem.name}: {workspace.problem.question}\nhome: {settings.home}\n", flush=True)

        def say(text: str) -> None:
            print(f"  {text}", flush=True)

        name = f"`hindcast run` (process {os.getpid()})"
        with DagsterInstance.get() as instance, turn(settings, instance, name, say):
            from assets.definitions import definitions  # reads the problem's files, in which mistakes may be

            if arguments.force:
                _forget_tables(workspace.domain)
            work = Pass(workspace, catalogue, instance, definitions, arguments.force)
            until = arguments.until
            if arguments.days:
                until = workspace.clock.now() + timedelta(days=arguments.days)
            try:
                run_all(work, until)
                keep_failure(settings, None)
            except HindcastError as error:
                keep_failure(settings, str(error))
                raise
            finally:
                keep_stage_seconds(settings, work.seconds)
            # Within the turn, so that it is this pass's state: who is at work is no news.
            status = replace(collect(workspace), running=None)
    except HindcastError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    render(status, recomputed=work.ran, seconds=time.monotonic() - began)
    if arguments.leaks:
        _measure_leaks(workspace)
    return 0


def _measure_leaks(workspace: Workspace) -> None:
    """Once, after the first run: a newcomer sees what the usual way would have claimed."""
    from hindcast.leaks.measure import measure_leaks
    from hindcast.leaks.report import render_summary, write
    from hindcast.leaks.variants import RANDOM_SPLIT, READ_LATE, load_variants
    from hindcast.promotion.champion import current

    reports = workspace.settings.reports
    if current(workspace.settings) is None or (reports / "leaks.json").exists():
        return
    print("  ▸ measure what a careless training set would have claimed", flush=True)
    recipes = [variant.name for variant in load_variants(workspace.settings) if variant.recipe]
    try:
        report = measure_leaks(workspace, None, _LEAK_ROWS, (RANDOM_SPLIT, READ_LATE, *recipes))
    except HindcastError as error:
        print(f"  ! not measured: {error}", flush=True)
        return
    render_summary(report, write(report, reports))


if __name__ == "__main__":
    sys.exit(main())
