"""What assets are given: the settings, the lake, the problem and the clock of one home. No logic."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from dagster import ConfigurableResource, InitResourceContext

from assets.inputs import report
from assets.turn import mark_alive, turn
from hindcast.clock import Clock, clock_of
from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings


class HindcastResource(ConfigurableResource):  # type: ignore[type-arg]
    """Everything that an asset's body needs besides its inputs. Read from the environment, once per process."""

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment()

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.settings)

    @cached_property
    def problem(self) -> Problem:
        return load_problem(self.settings.problem_file)

    @cached_property
    def clock(self) -> Clock:
        return clock_of(self.settings, self.problem)

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Iterator["HindcastResource"]:
        """Where the resource belongs to a run, it comes with the home's turn: runs don't meet (`turn.py`)."""
        run, instance = context.run, context.instance
        if run is None or instance is None:  # a sensor's or a schedule's
            yield self
            return
        mark_alive(self.settings, run.run_id)
        say = context.log.info if context.log else print
        with turn(self.settings, instance, f"run {run.run_id} of job {run.job_name}", say, run) as taken:
            if taken and run.remote_job_origin is not None:  # one of the home's graph, not of a test's
                report(instance, self.settings, self.problem, self.clock.now())
            yield self
