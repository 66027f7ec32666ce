"""The loop's steps as plain functions over a workspace, in the order of the data. The graph calls them, or a script.

Each reads what the step before has written, and returns what it found. No step prints, and none knows Dagster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from hindcast.artefacts import require_json, write_json
from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.tables import profile as profiles
from hindcast.tables import windows
from hindcast.tables.catch_up import catch_up
from hindcast.tables.freshness import raw_tables
from hindcast.tables.ingest import IngestResult, ingest
from hindcast.tables.transform import build, manifest, nodes_of, tables_of_labels, training_sql
from hindcast.workspace import Domain, Workspace

if TYPE_CHECKING:  # libraries that take seconds to import: each step imports what it needs
    import polars as pl

    from hindcast.evaluation.evaluate import Evaluation
    from hindcast.monitoring.evidently_report import Page
    from hindcast.monitoring.parity import Parity
    from hindcast.monitoring.report import MonitoringReport
    from hindcast.package.build import Package
    from hindcast.promotion.verdict import Verdict
    from hindcast.serving.request_replay import Replay
    from hindcast.training.search import Candidates


def ingest_table(domain: Domain, table: str, months: list[date] | None = None) -> IngestResult:
    """Reads a source table as it is known at the clock: all of it, or some months."""
    nodes = [name for name, tables in raw_tables(manifest(domain.settings)).items() if table in tables]
    return ingest(domain.lake, domain.sources, table, domain.clock.now(), domain.settings, months, nodes)


def note_known_until(domain: Domain) -> tuple[str, dict[str, datetime]]:
    """Writes until when all is known of the domain's tables; returns a version of it, and it (UTC, without a zone)."""
    version = windows.write_instants(domain.lake, domain.sources, domain.clock.now())
    return version, windows.tables_until(domain.lake, domain.sources)


@dataclass(frozen=True)
class Windows:
    """A problem's windows: what the split is as of (UTC), first and last (excluded) instant per split, a version."""

    as_of: datetime
    windows: dict[str, tuple[datetime, datetime]]
    version: str


def write_windows(workspace: Workspace, as_of: str | None = None) -> Windows:
    """Writes the prediction times that each split admits, as of an instant; None keeps the one in use."""
    problem, lake, now = workspace.problem, workspace.lake, workspace.clock.now()
    known_until = windows.ingested_until(lake, workspace.sources, now)
    instant = windows.instant_as_of(lake, problem, as_of, known_until)
    labels = tables_of_labels(workspace.settings, problem)
    version = windows.write_windows(lake, problem, workspace.sources, instant, now, labels)
    return Windows(instant, windows.windows_as_of(problem.splits, instant), version)


def build_data(workspace: Workspace, on_progress: Callable[[str], None]) -> None:
    """From source files to feature tables, for one problem and up to its domain's clock; what is there is kept.

    Raises:
        HindcastError: A file can't be read, or the SQL or one of its tests fails.
    """
    from hindcast.features.store import apply

    domain, settings = workspace.domain, workspace.settings
    for table in domain.sources.tables:
        on_progress(f"ingesting {table}")
        ingest_table(domain, table)
    note_known_until(domain)
    write_windows(workspace)
    on_progress("building the tables")
    catch_up(domain, on_progress)
    described = manifest(settings)
    nodes = [described["nodes"][name] for name in nodes_of(settings, workspace.problem)]
    wanted = [node["name"] for node in nodes if node["resource_type"] in ("model", "seed", "test")]
    faults = [result for result in build(settings, wanted) if result.failed]
    if faults:
        raise HindcastError("; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in faults))
    apply(settings, domain.name)


def write_profile(workspace: Workspace) -> tuple[profiles.Profile, str]:
    """Measures and draws the raw tables and the labeled one; returns the figures and a version of them."""
    from hindcast.tables.profile_page import page

    problem, reports = workspace.problem, workspace.settings.reports
    tables = [f"raw.{name}" for name in workspace.sources.tables]
    found = profiles.measure(workspace.lake, problem, [*tables, problem.labeled_table])
    title = f"What is in the data of {problem.name}"
    write_atomically(reports / "profile.html", page(found, title, problem.question, workspace.clock.now()))
    return found, profiles.keep(workspace.lake, found, problem)


def feature_versions(workspace: Workspace) -> tuple[datetime, dict[str, str]]:
    """The split's as-of instant (UTC), and per feature view a version of what its table held then; and `definition`,
    a version of what the service takes from them."""
    from hindcast.features.definition import definition
    from hindcast.features.history import versions_as_of

    as_of = windows.read_as_of(workspace.lake, workspace.problem)
    assert as_of is not None
    service = workspace.problem.feature_service
    versions = versions_as_of(workspace.settings, workspace.lake, service, as_of)
    return as_of, versions | {"definition": definition(workspace.settings, service)}


def fill_online_store(
    workspace: Workspace, start: datetime | None = None, end: datetime | None = None
) -> dict[str, int]:
    """Brings what became known from `start` to `end` (the clock, where left out) into the online store."""
    from hindcast.features.materialise import materialise

    end = end or workspace.clock.now()
    return materialise(workspace.settings, start, end, workspace.problem.feature_service)


def train_candidates(workspace: Workspace) -> "Candidates":
    """Searches and fits every candidate of the problem file on the training window, and keeps them."""
    from hindcast.features.store import feature_names
    from hindcast.training.search import train
    from hindcast.training.training_data import read_training_data

    problem, settings = workspace.problem, workspace.settings
    data = read_training_data(workspace.lake, problem)
    found = train(problem, data, feature_names(settings, problem.feature_service))
    found.save(settings.candidates_file)
    return found


def evaluate_candidates(workspace: Workspace) -> tuple["Evaluation", dict[str, str], dict[str, bytes]]:
    """Measures the candidates on validation and test and chooses one; returns what was found, tables and pictures."""
    from hindcast.evaluation.evaluate import evaluate, shown_metrics, shown_slices
    from hindcast.evaluation.plots import evaluation_plots, importances_of
    from hindcast.pages import as_page
    from hindcast.tasks import problem_task

    settings, problem = workspace.settings, workspace.problem
    candidates, data = _candidates(workspace)
    found = evaluate(problem, data.frame, candidates)
    write_json(settings.reports / "evaluation.json", found.report)
    task, primary = problem_task(problem), problem.metrics.primary
    importances = importances_of(task, found, candidates, primary, problem.budget.seed)
    pictures = evaluation_plots(task, found, importances, primary)
    tables = {
        "Candidates": shown_metrics(task, found.report["candidates"]),
        "Without a model": shown_metrics(task, found.baseline_entries),
        "Slices of the test window": shown_slices(task, found.report["slices"]),
    }
    page = as_page(f"{problem.name}: {found.chosen}", problem.question, tables, pictures)
    write_atomically(settings.reports / "evaluation.html", page)
    return found, tables, pictures


def package_candidate(workspace: Workspace) -> "Package":
    """Packages the chosen candidate, which becomes the challenger."""
    from hindcast.features.definition import definition
    from hindcast.features.store import feature_tables
    from hindcast.package.build import build as build_package
    from hindcast.package.build import request_columns

    settings, problem = workspace.settings, workspace.problem
    candidates, data = _candidates(workspace)
    columns = request_columns(settings, problem.feature_service)
    defined, registry = definition(settings, problem.feature_service), settings.feast_registry.read_bytes()
    report, identity = evaluation_report(workspace), workspace.lake.identity()
    sql = training_sql(settings, problem, feature_tables(settings, problem.feature_service))
    return build_package(
        settings, problem, data, candidates, report, *columns, defined, registry, lake=identity, sql=sql
    )


def judge_challenger(workspace: Workspace) -> "Verdict":
    """Holds the challenger against the bars and the champion, and keeps the verdict."""
    from hindcast.package.build import challenger_folder
    from hindcast.promotion.gate import evaluate_gate

    settings, problem = workspace.settings, workspace.problem
    _, data = _candidates(workspace)
    report, challenger = evaluation_report(workspace), challenger_folder(settings)
    return evaluate_gate(settings, problem, data, report, challenger, workspace.clock.now())


def apply_verdict(workspace: Workspace) -> dict[str, Any]:
    """Puts the challenger in use if the gate promoted it; returns what the champion's file says then."""
    from hindcast.features.materialise import fill_for
    from hindcast.package.build import challenger_folder
    from hindcast.promotion import champion

    settings, now = workspace.settings, workspace.clock.now()
    challenger = challenger_folder(settings).name
    return champion.apply_verdict(settings, challenger, now, lambda folder: fill_for(settings, folder, now))


def serve_requests(workspace: Workspace, on_progress: Callable[[str], None]) -> "Replay | None":
    """Serves the champion and asks it about every entity whose moment has come; None where requests come from outside.

    Raises:
        HindcastError: A request failed.
    """
    from hindcast.serving.request_replay import replay_requests
    from hindcast.serving.server import champion_tag, running

    settings, clock = workspace.settings, workspace.sources.clock
    if clock is None:
        return None
    with running(settings, champion_tag(settings)) as url:
        done = replay_requests(
            settings,
            workspace.problem,
            workspace.lake,
            url,
            clock.start,
            workspace.clock.now(),
            clock.refresh_every,
            lambda start, end: fill_online_store(workspace, start, end),
            on_progress,
        )
    if done.failed:
        raise HindcastError(f"{done.failed} of {done.sent} requests failed, the first: {done.failure}")
    return done


def score_batch(workspace: Workspace) -> tuple["pl.DataFrame", str, datetime, datetime]:
    """Scores the champion from the test window on, and keeps that; returns rows, model version, start and end (UTC)."""
    from hindcast.evaluation.scoring import score_period, scoring_period, write_batch
    from hindcast.package.model import ServedModel
    from hindcast.promotion.champion import champion_folder

    settings, problem, lake = workspace.settings, workspace.problem, workspace.lake
    model = ServedModel.load(champion_folder(settings))
    starts_at, ends_at = scoring_period(lake, problem)
    scored = score_period(settings, problem, lake, model, starts_at, ends_at)
    write_batch(lake, problem, scored)
    return scored, model.version, starts_at, ends_at


def measure_parity(workspace: Workspace) -> tuple["Parity", dict[str, bytes], str]:
    """Computes again what was served; writes the report and returns it, its pictures and its text."""
    from hindcast.monitoring.parity import measure, write
    from hindcast.monitoring.parity_page import page, pictures

    reports, problem = workspace.settings.reports, workspace.problem
    found = measure(workspace.settings, problem, workspace.lake, workspace.clock.now())
    drawn = pictures(found)
    write_atomically(reports / "parity.html", page(found, problem.name, drawn))
    return found, drawn, write(found, reports / "parity.json")


def report_monitoring(workspace: Workspace) -> tuple["MonitoringReport", "Page | None", str]:
    """Judges what was served; writes the report and returns it, the page (None where nothing was served), its text."""
    from hindcast.monitoring.evidently_report import write_page
    from hindcast.monitoring.periods import load
    from hindcast.monitoring.report import judge, write
    from hindcast.package.model import ServedModel
    from hindcast.promotion.champion import champion_folder

    reports, problem = workspace.settings.reports, workspace.problem
    model = ServedModel.load(champion_folder(workspace.settings))
    periods = load(problem, workspace.lake, model, workspace.clock.now())
    found = judge(problem, periods)
    page = write_page(problem, periods, found, reports / "monitoring.html")
    return found, page, write(found, reports / "monitoring.json")


def evaluation_report(workspace: Workspace) -> dict[str, Any]:
    """What `evaluate_candidates` found."""
    return require_json(workspace.settings.reports / "evaluation.json")


def _candidates(workspace: Workspace) -> tuple["Candidates", Any]:
    """The fitted candidates, and the training data that they were fitted on."""
    from hindcast.training.search import Candidates
    from hindcast.training.training_data import read_training_data

    found = Candidates.load(workspace.settings.candidates_file)
    return found, read_training_data(workspace.lake, workspace.problem, found.snapshot, found.training_hash)
