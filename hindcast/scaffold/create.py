"""Does what `hindcast new` is asked: looks, asks, plans, writes, and says what was assumed and what comes next."""

import tempfile
from datetime import datetime
from pathlib import Path

import click
import duckdb

from hindcast.errors import HindcastError
from hindcast.scaffold.further import add_question
from hindcast.scaffold.look import find_files, look_at
from hindcast.scaffold.plan import RESERVED, Plan, make_plan
from hindcast.scaffold.question import Given, ask
from hindcast.scaffold.roles import find_roles
from hindcast.scaffold.windows import find_times
from hindcast.scaffold.write import add_stages, render_domain, write_new
from hindcast.settings import Settings
from hindcast.workspace import check_names, load_catalogue


def create_problem(
    settings: Settings, name: str, files: tuple[Path, ...], given: Given, as_of: datetime | None, take_guesses: bool
) -> None:
    """Writes a domain and a problem of one name.

    Args:
        settings: Of the checkout.
        name: Of both.
        files: Data files, or one folder.
        given: The options.
        as_of: Instant (UTC) of the first model; None for one near the data's end.
        take_guesses: Rather than ask on the terminal.

    Raises:
        HindcastError: A file, an option or the name can't be used. Nothing is written then.
    """
    check_names(settings, [name])
    _check_is_new(settings, name)
    folder, paths = find_files(files)
    with duckdb.connect() as connection, tempfile.TemporaryDirectory() as scratch:
        connection.execute("SET timezone = 'UTC'")  # instants with an offset are read as UTC, as ingestion does
        tables = look_at(connection, name, paths, Path(scratch))
        for table in tables:
            click.echo(f"  {table.file}: {table.rows:,} rows, {len(table.columns)} columns")
        called = {table.name.removeprefix(f"{name}_") for table in tables} | {table.name for table in tables}
        if unknown := sorted(given.known_of.keys() - called):
            raise HindcastError(
                f"--known-of {unknown[0]}: there is no such table; there are {', '.join(sorted(called))}."
            )
        question = ask(connection, tables, given, take_guesses)
        taken = [column for column in question.main.columns if column.lower() in RESERVED and column != "label"]
        if taken:
            raise HindcastError(
                f"{question.main.file}: rename {', '.join(taken)}: it is the name of a column to be made."
            )
        roles = find_roles(connection, question, given)
        times = find_times(connection, question, as_of)
        where = str(folder.relative_to(settings.root)) if folder.is_relative_to(settings.root) else str(folder)
        plan = make_plan(connection, name, where, question, roles, times, given)
    written = render_domain(plan)
    write_new(settings, written)
    add_stages(settings, name)
    _say(plan)
    if question.assumed:
        click.echo(f"\nAssumed; put it right in problems/sources/{name}.yaml and problems/{name}.yaml:")
        for line in question.assumed:
            click.echo(f"  {line}")
    _say_next(name, list(written))


def create_further(
    settings: Settings, name: str, domain: str, like: str | None, label: str | None, task: str | None
) -> None:
    """Writes a further problem of a domain; arguments and errors as `add_question`."""
    check_names(settings, [name])
    _say_next(name, add_question(settings, name, domain, like, label, task))


def _check_is_new(settings: Settings, name: str) -> None:
    if settings.sources_file(name).exists() or settings.of(name).problem_file.exists():
        raise HindcastError(f"There is a domain or a problem {name} already. Choose another name, or delete its files.")
    load_catalogue(settings)


def _say(plan: Plan) -> None:
    question, roles, times = plan.question, plan.roles, plan.times
    click.echo(f"\nOne row of {question.main.file}, named by {', '.join(question.key)}: a {question.task} problem.")
    click.echo(f"  asked at        {question.asked_at}")
    click.echo(f"  label           {question.label}")
    click.echo(f"  known at        {question.known_at}")
    click.echo(f"  with a request  {', '.join(roles.own) or 'nothing but keys'}")
    for column, why in roles.why_later.items():
        click.echo(f"  known later     {column}: {why}")
    for table in plan.histories:
        click.echo(f"  history per     {', '.join(table.keys)}")
    for table in plan.lookups:
        click.echo(f"  looked up       {table.source.removeprefix('stg_')} by {', '.join(table.keys)}, as known then")
    for name, why in roles.ignored.items():
        click.echo(f"  not used        {name}: {why}")
    if roles.unused:
        click.echo(f"  not used        {', '.join(roles.unused)}")
    click.echo(f"  first model     as of {times.start:%Y-%m-%d %H:%M} UTC, from {times.rows:,} rows")
    click.echo(f"  then served     {times.demo_rows:,} requests, until {times.demo_until:%Y-%m-%d %H:%M} UTC")


def _say_next(name: str, written: list[str]) -> None:
    click.echo("\nWritten:")
    for path in written:
        click.echo(f"  {path}")
    click.echo(f"\nNext: hindcast run {name}")
