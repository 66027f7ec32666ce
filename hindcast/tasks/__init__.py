"""What differs between binary, multiclass and regression problems: one module per task, behind one interface."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hindcast.errors import HindcastError
from hindcast.tasks.binary import Binary
from hindcast.tasks.multiclass import Multiclass
from hindcast.tasks.regression import Regression
from hindcast.tasks.task import Task

if TYPE_CHECKING:  # the form of the file, which the service doesn't carry
    from hindcast.problem import Problem

TASKS: dict[str, type[Task]] = {task.name: task for task in (Binary, Multiclass, Regression)}


def find_task(name: str, classes: Sequence[str] = (), scale: str | None = None) -> Task:
    """A task by what the problem file, or a package's signature, declares of the label.

    Args:
        name: `binary`, `multiclass` or `regression`.
        classes: The labels of a multiclass problem, in the order of their codes.
        scale: On which a regression's model is fitted.

    Raises:
        HindcastError: There is no such task, or it takes no such declaration.
    """
    if name not in TASKS:
        raise HindcastError(f"There is no task {name!r}; there are {', '.join(TASKS)}.")
    return TASKS[name](tuple(classes), scale)


def problem_task(problem: "Problem") -> Task:
    """The task of a problem file.

    Raises:
        HindcastError: As `find_task`.
    """
    return find_task(problem.task, problem.label.classes, problem.label.scale)


def check_problem(problem: "Problem") -> None:
    """Holds what a problem file declares against what its task knows, before anything runs.

    Raises:
        HindcastError: The first declaration that the task can't take, with its key.
    """
    task, metrics = problem_task(problem), problem.metrics
    with _at("metrics.primary"):
        if not task.metric(metrics.primary).decides:
            raise HindcastError(f"{metrics.primary} alone doesn't say which model is better; choose another.")
    for name in metrics.bars:
        with _at(f"metrics.bars.{name}"):
            task.metric(name)
    task.check_metrics(metrics)
    for candidate in problem.candidates:
        with _at(f"candidates.{candidate.name}.model"):
            task.family(candidate.model)


@contextmanager
def _at(key: str) -> Iterator[None]:
    """Puts a key before what is wrong with it."""
    try:
        yield
    except HindcastError as error:
        raise HindcastError(f"{key}: {error}") from error
