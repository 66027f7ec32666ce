"""What assets are given: the settings, the lake, the problem and the clock of one home. No logic."""

from functools import cached_property

from dagster import ConfigurableResource

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
