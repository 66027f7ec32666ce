"""How the champion does on a period once its labels have come, also where the period lies ahead of the clock.

Then the same graph brings the data on in a home of its own beside this one: the clock, the lake and the champion of
this home stay as they are, and the champion is only read.
"""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hindcast.clock import clock_of
from hindcast.errors import HindcastError
from hindcast.evaluation.scoring import evaluate_period
from hindcast.lake import Lake
from hindcast.package.model import ServedModel
from hindcast.problem import Problem
from hindcast.promotion.champion import champion_folder
from hindcast.settings import Settings


def evaluate_model(
    settings: Settings, problem: Problem, first_day: datetime, last_day: datetime, version: str | None = None
) -> dict[str, Any]:
    """Scores a model on every entity of a period, features as known at each prediction time.

    Args:
        settings: The home with the model.
        problem: What is predicted.
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
    model = ServedModel.load(settings.models / version if version else champion_folder(settings))
    there = future_home(settings, problem, last_day)
    return evaluate_period(there, problem, Lake(there), model, first_day, last_day + timedelta(days=1))


def future_home(settings: Settings, problem: Problem, last_day: datetime) -> Settings:
    """This home, where its clock stands past the labels of a period; else the one beside it, brought on to there.

    Args:
        settings: This home.
        problem: Says how long labels take, and whether its time is simulated.
        last_day: Midnight (UTC) of the period's last day, which is included.

    Raises:
        HindcastError: The labels lie in the future of a wall clock.
    """
    known = last_day + timedelta(days=1) + problem.label.matures_within
    now = clock_of(settings, problem).now()
    if known <= now:
        return settings
    if problem.clock is None:
        raise HindcastError(
            f"The labels of a period up to {last_day:%Y-%m-%d} are known at {known:%Y-%m-%d %H:%M} UTC; "
            f"it is {now:%Y-%m-%d %H:%M}. Choose an earlier period."
        )
    return _bring_on(settings, known)


def _bring_on(settings: Settings, until: datetime) -> Settings:
    """A home in which the data has been brought on to an instant; what is there already isn't made again."""
    ahead = replace(settings, home=settings.future_home)
    print(
        f"That lies ahead of the clock: bringing the data on to {until:%Y-%m-%d %H:%M} UTC in {ahead.home}.",
        file=sys.stderr,
    )
    done = subprocess.run(
        [sys.executable, "-m", "assets.run", "--data-only", "--until", until.isoformat()],
        cwd=ahead.root,
        env=os.environ | ahead.environment(),
        stdout=sys.stderr,
    )
    if done.returncode:
        raise HindcastError(
            f"The data could not be brought on; what went wrong is said above. Its home is {ahead.home}."
        )
    os.environ.update(ahead.environment())  # Feast reads from the environment where the registry is
    return ahead
