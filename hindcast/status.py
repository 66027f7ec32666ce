"""What a home holds now, in one form for scripts (`collect`) and one for people (`render`). Computes nothing new."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from hindcast.artefacts import read_json, write_json
from hindcast.files import try_lock
from hindcast.lake import current_snapshot, tables_of
from hindcast.settings import BUILT_IN, Settings
from hindcast.sql import table_identifier, text_literal
from hindcast.tables.windows import read_as_of
from hindcast.workspace import Workspace

_TITLES = {
    "roc_auc": "ROC AUC",
    "average_precision": "av. prec.",
    "log_loss": "log loss",
    "brier": "Brier",
    "calibration_error": "calibr.",
    "macro_f1": "macro F1",
    "highest_roc_auc": "best AUC",
    "roc_auc_above_median": "AUC > med.",
    "mae": "MAE",
    "rmse": "RMSE",
    "rmsle": "RMSLE",
    "r2": "R²",
    "interval_width": "width",
}
"""Of metrics, for a narrow column."""


@dataclass(frozen=True)
class Status:
    """The state of one home; None or empty where a stage hasn't run yet.

    Attributes:
        rows: Per stage: raw tables' rows, cleaned tables' rows, labeled (known and pending), split windows.
        metrics: Names of the task's.
        candidates: Name, validation and test metrics, and whether it was chosen.
        gate: The newest verdict with its checks.
        champion: What `champion.json` says.
        requests: Entities whose prediction time has passed since serving began, as sent.
        logged: Durable records in the lake.
        labeled: Logged requests whose label has come.
        parity: Whether what was served is what the lake says, and what staleness did.
        report: The monitoring report's summary, status and causes.
        stages: Seconds of each stage when it last ran.
        running: Which run is at work.
        stopped: What stopped the last run of the main job, or which run was killed.
    """

    problem: str
    question: str
    now: str
    as_of: str | None
    snapshot: int | None
    rows: dict[str, Any]
    rejected: int
    rules: dict[str, int]
    metrics: list[str]
    candidates: list[dict[str, Any]]
    baselines: dict[str, Any]
    gate: dict[str, Any] | None
    champion: dict[str, Any] | None
    requests: int
    logged: int
    labeled: int
    parity: dict[str, Any] | None
    report: dict[str, Any] | None
    stages: dict[str, float]
    running: str | None
    stopped: str | None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True, default=str)


def collect(workspace: Workspace) -> Status:
    """Reads the state of a problem in a home; works at any moment, also before anything has run."""
    from hindcast.tasks import problem_task  # brings numpy, which must be loaded in the home's environment

    settings, problem, lake = workspace.settings, workspace.problem, workspace.lake
    own, requests = problem.table, problem.table("requests")
    of_domain = {
        "raw": sorted(workspace.sources.tables),
        **{stage: _models(workspace, folder) for stage, folder in (("cleaned", "staging"), ("features", "features"))},
    }
    counts: dict[str, int] = {}
    snapshot = None
    evaluation = read_json(settings.reports / "evaluation.json") or {}
    champion = read_json(settings.champion_file)
    replay = read_json(settings.replay_file) or {}
    running, stopped = _runs(settings)
    known: dict[str, int] = {}
    split: dict[str, int] = {}
    rules: dict[str, int] = {}
    rejected, labeled = 0, 0
    if settings.lake_catalogue.exists():
        with lake.reading() as connection:
            tables, snapshot = tables_of(connection), current_snapshot(connection)
            wanted = [requests, *(f"{stage}.{name}" for stage, names in of_domain.items() for name in names)]
            counts = _count_rows(connection, [name for name in wanted if name in tables])

            def rows(sql: str, table: str) -> list[tuple[Any, ...]]:
                return connection.execute(sql).fetchall() if table in tables else []

            label = problem.label
            for state, count in rows(
                f'SELECT "{label.column}" IS NOT NULL, count(*) FROM {problem.labeled_table} GROUP BY 1',
                problem.labeled_table,
            ):
                known["known" if state else "pending"] = count
            split = dict(rows(f"SELECT split, count(*) FROM {problem.split_table} GROUP BY 1", problem.split_table))
            rejected = sum(
                count
                for table, count in rows("SELECT table_name, count(*) FROM raw.rejected GROUP BY 1", "raw.rejected")
                if table in of_domain["raw"]
            )
            for model in _models(workspace, "intermediate"):
                if model.endswith("cleaning_rules"):
                    of_rules = f"cleaned.{model}"
                    rules |= dict(rows(f"SELECT rule, rows_touched FROM {of_rules} ORDER BY rule", of_rules))
            counted = rows(f'SELECT count("{label.column}") FROM {own("labeled_requests")}', own("labeled_requests"))
            labeled = counted[0][0] if counted else 0

    def stage(schema: str) -> dict[str, int]:
        return {name: counts[f"{schema}.{name}"] for name in of_domain[schema] if f"{schema}.{name}" in counts}

    return Status(
        problem=problem.name,
        question=problem.question,
        now=workspace.clock.now().isoformat(),
        as_of=f"{as_of:%Y-%m-%dT%H:%M:%SZ}" if (as_of := read_as_of(lake, problem)) else None,
        snapshot=snapshot,
        rows={
            "raw": stage("raw"),
            "cleaned": stage("cleaned"),
            "labeled": known,
            "split": split,
            "features": stage("features"),
        },
        rejected=rejected,
        rules=rules,
        metrics=list(problem_task(problem).metrics),
        candidates=evaluation.get("candidates", []),
        baselines=evaluation.get("baselines", {}),
        gate=_newest_verdict(settings),
        champion=champion,
        requests=replay.get("sent", 0),
        logged=counts.get(requests, 0),
        labeled=labeled,
        parity=read_json(settings.reports / "parity.json"),
        report=read_json(settings.reports / "monitoring.json"),
        stages=read_json(settings.stage_seconds) or {},
        running=running,
        stopped=stopped,
    )


def _runs(settings: Settings) -> tuple[str | None, str | None]:
    """Who has the home's turn; and what stopped the last run, where it didn't come to its end."""
    holder = settings.turn_holder.read_text() if settings.turn_holder.exists() else None
    lock = try_lock(settings.turn)
    if lock is None:
        return holder, None
    lock.close()
    if holder:
        return None, f"{holder} was killed"
    return None, (read_json(settings.failure_file) or {}).get("message")


def keep_failure(settings: Settings, message: str | None) -> None:
    """Remembers what stopped the main job; None that nothing did."""
    if message is None:
        settings.failure_file.unlink(missing_ok=True)
    else:
        write_json(settings.failure_file, {"message": message})


def _models(workspace: Workspace, stage: str) -> list[str]:
    """The names of the domain's SQL models in a folder, without parsing the project."""
    folder = workspace.settings.dbt_project / "models" / workspace.domain.name / stage
    return sorted(path.stem for path in folder.rglob("*.sql"))


def _count_rows(connection: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> dict[str, int]:
    """Rows per table; of a raw table those that are known now, without versions that have ended."""

    def count(table: str) -> str:
        now = " WHERE _known_until IS NULL" if table.startswith("raw.") else ""
        return f"SELECT {text_literal(table)}, count(*) FROM {table_identifier(table)}{now}"

    return dict(connection.execute(" UNION ALL ".join(map(count, tables))).fetchall()) if tables else {}


def _newest_verdict(settings: Settings) -> dict[str, Any] | None:
    files = sorted(settings.verdicts.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return read_json(files[-1]) if files else None


def keep_stage_seconds(settings: Settings, seconds: dict[str, float]) -> None:
    """Remembers how long each stage took; a stage that didn't run keeps what it took last."""
    kept = (read_json(settings.stage_seconds) or {}) | {stage: round(value, 1) for stage, value in seconds.items()}
    write_json(settings.stage_seconds, kept)


def render(status: Status, recomputed: int | None = None, seconds: float = 0.0) -> None:
    """Prints the final screen.

    Args:
        status: The state to show.
        recomputed: How many phases ran in this pass; 0 says that nothing had changed, None that there was no pass.
        seconds: How long the pass took.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hindcast.promotion.verdict import UNDECIDED

    console = Console(highlight=False)
    which = "" if status.problem == BUILT_IN else f" PROBLEM={status.problem}"
    console.print()
    console.rule(f"[bold]{status.problem}", align="left")
    console.print(status.question)
    if status.running:
        console.print(f"[bold]At work[/]   {escape(status.running)}")
    if status.stopped:
        console.print(f"[bold red]Stopped[/]   {escape(status.stopped)}")
    if status.snapshot is None:
        console.print(
            f"\nThis home is empty.\n\n[bold]Next[/]      make run{which}     from raw tables to a served model"
        )
        console.rule()
        return
    as_of, now = (instant[:16].replace("T", " ") if instant else "never" for instant in (status.as_of, status.now))
    console.print(f"As of {as_of} UTC; the clock stands at {now}; lake snapshot {status.snapshot}.\n")

    flow = Table("stage", "what", box=None, header_style="bold", pad_edge=False)
    raw = status.rows["raw"]
    flow.add_row("raw", f"{sum(raw.values()):,} rows in {len(raw)} tables; {status.rejected:,} rejected")
    touched = sum(status.rules.values())
    cleaned = status.rows["cleaned"]
    flow.add_row("cleaned", f"{sum(cleaned.values()):,} rows; {len(status.rules)} rules touched {touched:,}")
    labeled = status.rows["labeled"]
    flow.add_row("labeled", f"{labeled.get('known', 0):,} with a known label, {labeled.get('pending', 0):,} still open")
    split = status.rows["split"]
    flow.add_row(
        "split", ", ".join(f"{name} {split[name]:,}" for name in ("train", "validation", "test") if name in split)
    )
    features = status.rows["features"]
    flow.add_row("features", f"{sum(features.values()):,} rows in {len(features)} tables")
    console.print(flow)

    if status.candidates:
        titles = [_TITLES.get(metric, metric) for metric in status.metrics]
        scores = Table("candidate", "on", *titles, box=None, header_style="bold", pad_edge=False)
        scored = [(each["name"] + (" ←" if each.get("chosen") else ""), each) for each in status.candidates]
        for name, windows in [*scored, *((f"({name})", each) for name, each in status.baselines.items())]:
            for window in ("validation", "test"):
                numbers = (windows[window].get(metric) for metric in status.metrics)
                scores.add_row(name, window, *("" if number is None else f"{number:.4f}" for number in numbers))
                name = ""
        console.print()
        console.print(scores)

    console.print()
    if status.gate:
        held = sum(1 for check in status.gate["checks"] if check["holds"])
        asked = f"{question}; " if (question := status.gate.get("question")) else ""
        console.print(f"gate      {status.gate['verdict']} ({asked}{held} of {len(status.gate['checks'])} checks hold)")
        for check in status.gate["checks"]:
            if not check["holds"]:
                why = f": {check['detail']}" if check["detail"] else ""
                console.print(f"          [red]✗[/] {check['name']}: {check['value']} (limit {check['limit']}){why}")
        if status.gate["verdict"] == UNDECIDED:
            console.print(f"          {status.gate['checks'][-1]['detail']}", markup=False)
    if status.champion:
        console.print(f"champion  {status.champion['version']}")
    console.print(
        f"served    {status.requests:,} requests, {status.logged:,} logged, {status.labeled:,} have a label by now"
    )
    if status.parity:
        console.print(f"parity    {status.parity['summary']}")
    if status.report:
        console.print(f"report    {status.report['summary']}")
    console.print()
    timed = ", ".join(f"{stage} {took:.0f}" for stage, took in status.stages.items())
    console.print(f"seconds   {timed}")
    if recomputed:
        console.print(f"          this pass {seconds:.0f} s, {recomputed} phases ran")
    elif recomputed == 0:
        console.print(f"          this pass {seconds:.0f} s: nothing was computed again, no code or input has changed")
    if status.stopped:
        console.print(f"\n[bold]Next[/]      make run{which}     does what is left")
        console.rule()
        return
    console.print("\n[bold]Next[/]      make ui      the graph, its runs, checks and plots")
    console.print(f"          make serve{which}   ask the champion over HTTP")
    console.print(f"          make replay{which}  let one more week go by")
    console.rule()
