"""The `hindcast` command: arguments in, one call, words out. What a command does is elsewhere."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from hindcast.artefacts import to_json
from hindcast.checking.command import check
from hindcast.errors import HindcastError
from hindcast.home import prepare
from hindcast.scaffold.command import new
from hindcast.settings import Settings
from hindcast.workspace import Workspace, choose_problem, open_workspace


def _start(problem: str | None = None) -> Workspace:
    """The problem that is meant, in a home that is ready."""
    asked = problem or os.environ.get("HINDCAST_PROBLEM")
    settings = choose_problem(Settings.from_environment(), asked)
    prepare(settings)  # first: numpy reads the home's environment when it is loaded
    return open_workspace(settings)


def _of_problem(command: Callable[..., None]) -> Callable[..., None]:
    """The option that says which problem is meant."""
    return click.option("--problem", help="Where the home holds several.")(command)


def _become(settings: Settings, *command: str) -> NoReturn:
    """Replaces this process, so that signals and the exit status are the tool's own."""
    os.chdir(settings.root)
    os.execv(command[0], list(command))


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hindcast", message="%(prog)s %(version)s")
def cli() -> None:
    """Machine learning over tables where everything is read as it was known then."""


cli.add_command(new)
cli.add_command(check)


@cli.command()
@click.argument("problem", required=False)
@click.option("--force", is_flag=True, help="Do everything again, also where nothing has changed.")
def run(problem: str | None, force: bool) -> None:
    """Run the main job of PROBLEM, from raw tables to the monitoring report; what is up to date is left out."""
    settings = _start(problem).settings
    _become(settings, sys.executable, "-m", "assets.run", "--leaks", *(["--force"] if force else []))


@cli.command()
@click.argument("problem", required=False)
@click.option("--days", default=7.0, show_default=True, help="How far the simulated clock advances.")
def replay(problem: str | None, days: float) -> None:
    """Let simulated time go by: data arrives, requests are served, labels mature, reports follow."""
    workspace = _start(problem)
    if workspace.sources.clock is None:
        raise HindcastError(f"{workspace.domain.name} lives by the wall clock: there is no simulated time.")
    _become(workspace.settings, sys.executable, "-m", "assets.run", "--days", str(days))


@cli.command()
@click.argument("problem", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(problem: str | None, as_json: bool) -> None:
    """Show what the home holds of PROBLEM."""
    from hindcast.status import collect, render

    state = collect(_start(problem))
    if as_json:
        click.echo(state.to_json())
    else:
        render(state)


@cli.command()
@click.option("--port", default=3000, show_default=True)
def ui(port: int) -> None:
    """Open the Dagster UI over this home."""
    settings = Settings.from_environment()
    prepare(settings)
    _become(settings, _tool("dagster"), "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port))


@cli.command()
@click.argument("problem", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than this machine's own needs a token.")
@click.option("--port", default=3001, show_default=True)
def serve(problem: str | None, host: str, port: int) -> None:
    """Serve the champion of PROBLEM over HTTP.

    Who may ask: HINDCAST_TOKENS (or HINDCAST_TOKENS_FILE) holds the tokens of which a request must bear one.
    """
    from hindcast.serving.access import known_tokens
    from hindcast.serving.server import is_loopback, serve_forever

    settings = _start(problem).settings
    if not known_tokens(os.environ) and not is_loopback(host):
        raise HindcastError(f"To listen on {host}, set HINDCAST_TOKENS or HINDCAST_TOKENS_FILE: anybody could ask.")
    serve_forever(settings, host, port)


@cli.command()
@click.argument("problem", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def rollback(problem: str | None, as_json: bool) -> None:
    """Put PROBLEM's champion before the present one in use, once it is shown to answer as it did."""
    from hindcast.promotion.rollback import roll_back

    workspace = _start(problem)
    done = roll_back(workspace.settings, workspace.lake, workspace.clock.now())
    if as_json:
        click.echo(to_json(asdict(done)), nl=False)
        return
    click.echo(f"{done.version} is the champion again; {done.rolled_back} was left.")
    click.echo(f"Made as of {done.as_of} from lake snapshot {done.snapshot}, with the code {done.code_version}.")
    if done.replayed:
        difference = f"the largest difference is {done.max_difference:.1g}"
        click.echo(f"{done.replayed:,} of its {done.logged:,} logged requests were answered once more: {difference}.")
    else:
        click.echo(f"None of its {done.logged:,} logged requests could be answered once more.")
    if done.refilled:
        click.echo("The online store was filled for it, by its own definitions of its features.")


@cli.command()
@click.argument("version")
@click.option("--because", required=True, help="Why; it is recorded.")
@_of_problem
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def promote(version: str, because: str, problem: str | None, as_json: bool) -> None:
    """Put the model VERSION in use, whatever the gate said of it: where it can't decide, a person does."""
    from hindcast.promotion.by_hand import promote_by_hand

    workspace = _start(problem)
    done = promote_by_hand(workspace.settings, workspace.problem, version, because, workspace.clock.now())
    if as_json:
        click.echo(to_json(asdict(done)), nl=False)
        return
    click.echo(f"{done.version} is the champion; before it: {done.previous or 'none'}.")
    click.echo(f"Recorded: {done.by} decided at {done.at}, because: {done.because}")


@cli.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@_of_problem
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def import_(folder: Path, problem: str | None, as_json: bool) -> None:
    """Bring in a model package (FOLDER) of another home, once it is shown to work here.

    A package holds code (its features' functions): import only what comes from people you trust.
    """
    from hindcast.promotion.by_hand import import_package

    workspace = _start(problem)
    done = import_package(workspace.settings, workspace.problem, folder, workspace.clock.now())
    if as_json:
        click.echo(to_json(asdict(done)), nl=False)
        return
    click.echo(f"{done.version} was brought in from {done.origin}.")
    click.echo(
        f"Score it by `hindcast evaluate --model {done.version}`, or ask it by `hindcast shadow {done.version}`."
    )


@cli.command()
@click.argument("version", required=False)
@click.option("--off", is_flag=True, help="Ask no challenger any more.")
@_of_problem
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def shadow(version: str | None, off: bool, problem: str | None, as_json: bool) -> None:
    """Have the model VERSION be asked beside the champion; without one, compare the two so far."""
    from hindcast.features.materialise import fill_for
    from hindcast.monitoring.shadowing import compare, render
    from hindcast.promotion.champion import set_shadow

    workspace = _start(problem)
    settings = workspace.settings
    if version or off:
        if version and off:
            raise HindcastError("Give a version or --off, not both.")
        now = workspace.clock.now()
        set_shadow(settings, version, now, lambda folder: fill_for(settings, folder, now))
        click.echo(f"{version} is asked beside the champion." if version else "No challenger is asked any more.")
        return
    found = compare(workspace.problem, workspace.lake)
    click.echo(json.dumps([asdict(each) for each in found], indent=2) if as_json else render(found))


@cli.command()
@click.argument("table", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Show at most so many rows.")
@_of_problem
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def rejected(table: str | None, limit: int, problem: str | None, as_json: bool) -> None:
    """List the rows of the source files that could not be read: of the raw table TABLE, or of all."""
    from hindcast.tables.rejected import count_reasons, list_rejected, shown_reasons

    workspace = _start(problem)
    lake, declared = workspace.lake, workspace.sources.tables
    name = table and table.removeprefix("raw.")
    if name and name not in declared:
        raise HindcastError(f"The sources declare no table {table}; there are: {', '.join(declared)}.")
    found, counts = list_rejected(lake, name, limit), count_reasons(lake, name)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    for each in found:
        click.echo(f"raw.{each.table}  {each.file}, line {each.line}: {each.reason}")
        if each.text is not None:
            click.echo(f"    {each.text}")
    total = sum(counts.values())
    if not total:
        click.echo("No row was rejected.")
        return
    click.echo(f"{total:,} rejected rows" + (f", the first {len(found)} shown" if total > len(found) else "") + ".")
    click.echo(f"Why: {shown_reasons(counts)}")


@cli.command()
def docs() -> None:
    """Write the dbt documentation and lineage as one static page."""
    from hindcast.documentation import write_dbt_docs

    settings = Settings.from_environment()
    prepare(settings)
    click.echo(f"Open {write_dbt_docs(settings)}")


@cli.command()
@click.option("--from", "starts", type=click.DateTime(["%Y-%m-%d"]), required=True, help="First day (UTC).")
@click.option("--to", "ends", type=click.DateTime(["%Y-%m-%d"]), required=True, help="Last day (UTC), included.")
@click.option("--model", "version", help="Version of a package of this home; the champion where left out.")
@_of_problem
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def evaluate(starts: datetime, ends: datetime, version: str | None, problem: str | None, as_json: bool) -> None:
    """Score the champion, or another model, on a period, features as known then, once its labels have come."""
    from hindcast.evaluation.future_home import evaluate_model

    result = evaluate_model(_start(problem), starts.replace(tzinfo=UTC), ends.replace(tzinfo=UTC), version)
    if as_json:
        click.echo(json.dumps(result, indent=2, sort_keys=True))
    else:
        for name, value in result.items():
            click.echo(f"{name:24} {value:.4f}" if isinstance(value, float) else f"{name:24} {value}")


@cli.command()
@click.option("--from", "starts", type=click.DateTime(["%Y-%m-%d"]), help="First day (UTC) to test on.")
@click.option("--to", "ends", type=click.DateTime(["%Y-%m-%d"]), help="Last day (UTC) to test on, included.")
@click.option(
    "--rows", default=100_000, show_default=True, type=click.IntRange(1), help="Fit each model to at most so many rows."
)
@click.option("--only", multiple=True, help="Name of a variant; may be given several times.")
@_of_problem
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def leaks(
    starts: datetime | None,
    ends: datetime | None,
    rows: int,
    only: tuple[str, ...],
    problem: str | None,
    as_json: bool,
) -> None:
    """Measure what leaks are worth: scored offline, and when the same model is served honestly.

    Without a period, the models are tested on the problem's test window.
    """
    from hindcast.leaks.measure import measure_leaks
    from hindcast.leaks.report import render, write

    if (starts is None) != (ends is None):
        raise HindcastError("Give both --from and --to, or neither.")
    period = (starts.replace(tzinfo=UTC), ends.replace(tzinfo=UTC)) if starts and ends else None
    workspace = _start(problem)
    report = measure_leaks(workspace, period, rows, only, lambda line: click.echo(f"  ▸ {line}", err=True))
    page = write(report, workspace.settings.reports)
    if as_json:
        click.echo(to_json(asdict(report)), nl=False)
    else:
        render(report)
        click.echo(f"Open {page}")


def main() -> None:
    try:
        cli()
    except HindcastError as error:
        click.echo(f"hindcast: {error}", err=True)
        sys.exit(1)
