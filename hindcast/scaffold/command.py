"""The options of `hindcast new`. What it does is in `create`, which is imported only where it is needed."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import click

from hindcast.errors import HindcastError
from hindcast.settings import Settings

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Duration(click.ParamType):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = re.fullmatch(r"(\d+)([mhdw])", str(value))
        if not match:
            self.fail(f"{value!r}: write a number and m, h, d or w, as in 3d.", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


@click.command()
@click.argument("name")
@click.option("--from", "files", multiple=True, type=click.Path(path_type=Path), help="A file, several, or one folder.")
@click.option("--key", help="Columns that name a row, separated by commas.")
@click.option("--asked-at", help="When the question is asked: a column, or SQL of an instant (UTC).")
@click.option("--label", help="What is predicted: a column, or SQL.")
@click.option("--known-at", help="When the label became known: a column, or SQL of an instant (UTC).")
@click.option("--known-after", type=_Duration(), help="Or how long after the question, as in 3d.")
@click.option("--task", help="binary, multiclass or regression.")
@click.option(
    "--per", multiple=True, help="A column whose values come back; its history becomes features. a+b for two."
)
@click.option("--known-when-asked", help="Columns, separated by commas; all others count as known with the label.")
@click.option("--known-of", multiple=True, metavar="TABLE=SQL", help="When a row of another file became known.")
@click.option("--corrected-at", help="When a version of a row became known, where the file holds several per key.")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Instant (UTC) of the first model.")
@click.option("--domain", help="Ask a further question of a domain that is there; --from isn't needed then.")
@click.option("--like", help="With --domain: the problem whose rows and features it shares.")
@click.option("--yes", is_flag=True, help="Take the guesses, ask nothing.")
def new(
    name: str,
    files: tuple[Path, ...],
    key: str | None,
    asked_at: str | None,
    label: str | None,
    known_at: str | None,
    known_after: timedelta | None,
    task: str | None,
    per: tuple[str, ...],
    known_when_asked: str | None,
    known_of: tuple[str, ...],
    corrected_at: str | None,
    as_of: datetime | None,
    domain: str | None,
    like: str | None,
    yes: bool,
) -> None:
    """Write a domain and a problem NAME for your files; then `hindcast run NAME` trains, serves and monitors a model.

    \b
    Examples:
      hindcast new returns --from orders.csv --key order_id --asked-at ordered_at --label returned --known-after 30d
      hindcast new many_items --domain returns --label "quantity > 3"
    """
    settings = Settings.from_environment()
    from hindcast.scaffold.create import create_further, create_problem
    from hindcast.scaffold.question import Given

    if domain:
        create_further(settings, name, domain, like, label, task)
        return
    if not files:
        raise HindcastError("--from is missing: name your files, or their folder.")
    instants = dict(map(_instant_of, known_of))
    listed = [part.strip() for part in known_when_asked.split(",")] if known_when_asked else None
    given = Given(key, asked_at, label, known_at, known_after, task, corrected_at, per, listed, instants)
    create_problem(settings, name, files, given, as_of, yes)


def _instant_of(text: str) -> tuple[str, str]:
    table, equals, expression = text.partition("=")
    if not equals:
        raise HindcastError(f"--known-of {text}: write the table, =, and SQL of an instant.")
    return table.strip(), expression.strip()
