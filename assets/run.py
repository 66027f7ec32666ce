"""The main job: which jobs run, in what order, at which instant of the clock, and which of them needn't.

Started as a process of its own (`python -m assets.run`) by `hindcast run` and `hindcast replay`.
A phase is left out when its latest successful run was made by the same code from the same inputs.
"""

import argparse
import logging
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, RunsFilter

from assets.progress import failures_of
from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.files import exclusive
from hindcast.fingerprint import fingerprint
from hindcast.home import prepare
from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.status import collect, keep_stage_seconds, render
from hindcast.tables.sources import load_sources

PHASE, FINGERPRINT = "hindcast/phase", "hindcast/fingerprint"


@dataclass
class Pass:
    """One pass through the graph for one problem in one home."""

    settings: Settings
    problem: Problem
    instance: DagsterInstance
    definitions: Any
    seconds: dict[str, float] = field(default_factory=dict)
    ran: int = 0

    def phase(self, name: str, job: str, says: str, inputs: tuple[object, ...], **execution: Any) -> str:
        """Runs a job unless its latest successful run had the same code and inputs; returns their fingerprint.

        Raises:
            HindcastError: The run failed; the message names the steps and checks.
        """
        root = self.settings.root
        code = [*root.glob("hindcast/**/*.py"), *root.glob("assets/**/*.py"), root / "requirements.lock"]
        wanted = fingerprint(code, inputs)
        if self._latest(name) == wanted:
            print(f"  = {says}: unchanged", flush=True)
            return wanted
        print(f"  ▸ {says}", flush=True)
        self.ran += 1
        tags = {PHASE: name, FINGERPRINT: wanted} | execution.pop("tags", {})
        config = {"loggers": {"console": {}}} | execution.pop("run_config", {})
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, run_config=config, raise_on_error=False, **execution
        )
        self._count_seconds(result)
        if not result.success:
            failed = "\n".join(failures_of(result.all_events)) or f"{job} failed"
            raise HindcastError(f"{failed}\n`hindcast ui` shows run {result.run_id}.")
        return wanted

    def version_of(self, *key: str) -> str:
        """Data version of an asset's latest materialisation: equal content, equal version."""
        event = self.instance.get_latest_materialization_event(AssetKey(key))
        tags = event.asset_materialization.tags if event and event.asset_materialization else None
        return (tags or {}).get("dagster/data_version", "none")

    def _latest(self, phase: str) -> str | None:
        if not self.settings.lake_catalogue.exists():
            return None  # the lake was deleted: what the runs' records say is no longer so
        records = self.instance.get_run_records(
            RunsFilter(tags={PHASE: phase}, statuses=[DagsterRunStatus.SUCCESS]), limit=1
        )
        return records[0].dagster_run.tags.get(FINGERPRINT) if records else None

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
    as_of = (
        problem.clock.start if problem.clock else datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    )
    declaration = settings.sources_folder / f"{problem.sources}.yaml"
    sources = load_sources(declaration)
    folder, _ = sources.origin(settings.root)

    sql = sorted(path for path in settings.dbt_project.rglob("*.*") if path.suffix in {".sql", ".yml", ".csv"})
    views = sorted(settings.feature_repo.glob("*.*"))
    shape = problem.model_dump_json(
        include={"entity", "label", "splits", "prediction_time", "feature_service", "leakage"}
    )

    def data(stage: str, instant: datetime, says: str) -> str:
        months = {}
        if sources.starts:
            months = {
                "dagster/asset_partition_range_start": sources.starts.isoformat(),
                "dagster/asset_partition_range_end": sources.newest_month(instant).isoformat(),
            }
        files = fingerprint([declaration, *(path for t in sources.tables.values() for path in folder.glob(t.file))])
        raw = work.phase(f"ingest {stage}", "ingest", f"bring in what is known {says}", (files, instant), tags=months)
        config = {"ops": {"control": {"config": {"as_of": as_of.isoformat()}}}}
        inputs = (raw, fingerprint([*sql, *views]), shape)
        return work.phase(
            f"build {stage}", "build", f"clean, label, split, derive features {says}", inputs, run_config=config
        )

    if data_only and until and clock:
        clock.move_to(max(until, clock.now()))
        data("later", clock.now(), f"by {clock.now():%Y-%m-%d %H:%M} UTC")
        return
    built = data("as of", as_of, f"by {as_of:%Y-%m-%d %H:%M} UTC")
    trained = work.phase(
        "train",
        "train",
        "train, evaluate, package, decide",
        (built, problem.model_dump_json(exclude={"monitoring", "clock"})),
    )
    bento = fingerprint(sorted(settings.bentos.glob("*.*")))
    published = work.phase("publish", "publish", "fill the online store, build the bento", (trained, bento))

    if clock and problem.clock:
        target = max(until or problem.clock.demo_until, clock.now())
        if target > clock.now():
            print(f"  ▸ the clock goes on to {target:%Y-%m-%d %H:%M} UTC", flush=True)
            clock.move_to(target)
        built = data("later", target, f"by {target:%Y-%m-%d %H:%M} UTC")
    served = work.phase("serve", "serve", "serve real requests, log them, score the period", (published, built))
    work.phase(
        "monitor",
        "monitor",
        "compute again what was served, join labels, report",
        (served, problem.monitoring.model_dump_json()),
    )


def _clear_after_a_kill(instance: DagsterInstance) -> None:
    """Ends the records of runs whose process is gone (we hold the pass's lock), and frees their pool slots."""
    unfinished = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED]
    for record in instance.get_run_records(RunsFilter(statuses=unfinished)):
        run = record.dagster_run
        if PHASE in run.tags:
            instance.report_run_failed(run, "The process that ran this was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m assets.run")
    parser.add_argument("--until", type=datetime.fromisoformat)
    parser.add_argument("--data-only", action="store_true", help="stop when the feature tables are made as of --until")
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

        def waiting() -> None:
            print("  another run is at work in this home; waiting for it", flush=True)

        with exclusive(settings.locks / "run", on_wait=waiting), DagsterInstance.get() as instance:
            _clear_after_a_kill(instance)
            from assets.definitions import build_definitions  # reads the problem's files, in which mistakes may be

            work = Pass(settings, problem, instance, build_definitions())
            until = arguments.until
            if arguments.days and problem.clock:
                until = SimulatedClock(settings.clock_file, problem.clock.start).now() + timedelta(days=arguments.days)
            try:
                run_all(work, until, arguments.data_only)
            finally:
                keep_stage_seconds(settings, work.seconds)
            status = collect(settings, problem, Lake(settings))
    except HindcastError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    if not arguments.data_only:
        render(status, recomputed=work.ran, seconds=time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
