"""What assets are given: the domains and problems of one home. No logic."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from dagster import ConfigurableResource, InitResourceContext

from assets.inputs import report
from assets.turn import mark_alive, turn
from hindcast.settings import Settings
from hindcast.workspace import Catalogue, Domain, Workspace, load_catalogue


class HindcastResource(ConfigurableResource):  # type: ignore[type-arg]
    """Everything that an asset's body needs besides its inputs. Read from the environment, once per process."""

    @cached_property
    def catalogue(self) -> Catalogue:
        return load_catalogue(Settings.from_environment())

    def domain(self, name: str) -> Domain:
        return self.catalogue.domains[name]

    def problem(self, name: str) -> Workspace:
        return self.catalogue.workspaces[name]

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Iterator["HindcastResource"]:
        """Where the resource belongs to a run, it comes with the home's turn: runs don't meet (`turn.py`)."""
        run, instance = context.run, context.instance
        if run is None or instance is None:  # a sensor's or a schedule's
            yield self
            return
        settings = Settings.from_environment()
        mark_alive(settings, run.run_id)
        say = context.log.info if context.log else print
        with turn(settings, instance, f"run {run.run_id} of job {run.job_name}", say, run) as taken:
            if taken and run.remote_job_origin is not None:  # one of the home's graph, not of a test's
                report(instance, self.catalogue)
            yield self
