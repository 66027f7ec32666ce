"""How the champion does on a period once its labels have come, also where the period lies ahead of the clock.

Then the data is built further in a home of its own beside this one: the clock, the lake and the champion of this home
stay as they are, and the champion is only read.
"""

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.evaluation.scoring import evaluate_period
from hindcast.files import exclusive
from hindcast.home import prepare
from hindcast.package.model import ServedModel
from hindcast.promotion.champion import champion_folder
from hindcast.workspace import Workspace


def evaluate_model(
    workspace: Workspace, first_day: datetime, last_day: datetime, version: str | None = None
) -> dict[str, Any]:
    """Scores a model on every entity of a period, features as known at each prediction time.

    Args:
        workspace: Of the home with the model.
        first_day: Midnight (UTC) at which the period begins.
        last_day: Midnight (UTC) of the last day, which is included.
        version: Of a package of this home; None for the champion.

    Returns:
        As `scoring.evaluate_period`.

    Raises:
        HindcastError: There is no such model, the period is empty or ends before it begins, or it lies in the future
            of a wall clock.
    """
    if last_day < first_day:
        raise HindcastError(f"The period ends ({last_day:%Y-%m-%d}) before it begins ({first_day:%Y-%m-%d}).")
    settings, problem = workspace.settings, workspace.problem
    model = ServedModel.load(settings.models / version if version else champion_folder(settings))
    there = future_home(workspace, last_day)
    return evaluate_period(there.settings, problem, there.lake, model, first_day, last_day + timedelta(days=1))


def future_home(workspace: Workspace, last_day: datetime) -> Workspace:
    """This home, where its clock stands past the labels of a period; else the one beside it, brought to there.

    Args:
        workspace: Of this home.
        last_day: Midnight (UTC) of the period's last day, which is included.

    Raises:
        HindcastError: The labels lie in the future of a wall clock, or the data can't be built.
    """
    known = last_day + timedelta(days=1) + workspace.problem.label.matures_within
    now = workspace.clock.now()
    if known <= now:
        return workspace
    if workspace.sources.clock is None:
        raise HindcastError(
            f"The labels of a period up to {last_day:%Y-%m-%d} are known at {known:%Y-%m-%d %H:%M} UTC; "
            f"it is {now:%Y-%m-%d %H:%M}. Choose an earlier period."
        )
    return _advance(workspace, known)


def _advance(workspace: Workspace, until: datetime) -> Workspace:
    """A home in which the data is built up to an instant; what is there already isn't built again."""
    from hindcast.pipeline import build_data

    settings = replace(workspace.settings, home=workspace.settings.future_home)
    print(
        f"That lies ahead of the clock: building the data up to {until:%Y-%m-%d %H:%M} UTC in {settings.home}.",
        file=sys.stderr,
    )
    prepare(settings)  # Feast reads from the environment where the registry is
    ahead = replace(workspace, settings=settings, domain=replace(workspace.domain, settings=settings))
    with exclusive(settings.turn):
        clock = ahead.clock
        assert isinstance(clock, SimulatedClock)
        clock.move_to(max(until, clock.now()))
        build_data(ahead, lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    return ahead
