"""Runs a job in this process as a run like any other: the Dagster UI shows it on its home, timeline and job pages."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import uuid4

from dagster import AssetCheckKey, AssetKey, DagsterInstance, Definitions

# Dagster has no public way to give a run that isn't launched by its daemon the origin by which the UI finds runs:
# `JobDefinition.execute_in_process` leaves it out. `tests/graph/test_turn.py` holds that this is enough.
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths

from assets.turn import mark_alive, mark_ended
from hindcast.settings import Settings

_REPOSITORY = "__repository__"
"""What Dagster calls the only repository of a code location that is made of `Definitions`."""


def run_job(
    settings: Settings,
    instance: DagsterInstance,
    definitions: Definitions,
    job: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: AbstractSet[AssetKey] | None = None,
    checks: AbstractSet[AssetCheckKey] | None = None,
) -> Any:
    """Executes a job, or a part of it; returns Dagster's result, also where a step failed.

    Args:
        settings: Of the home; its checkout has the `workspace.yaml` that the UI reads.
        instance: Keeps the record.
        definitions: Has the job.
        job: Its name.
        tags: Of the run.
        run_config: Of the run.
        assets: Of these alone; None for all of the job.
        checks: Of these alone; None for all of the assets.
    """
    defined = definitions.resolve_job_def(job)
    if assets is not None:
        defined = defined.get_subset(asset_selection=assets, asset_check_selection=checks)
    run_id = str(uuid4())
    mark_alive(settings, run_id)  # before there is a record: what is recorded and not alive was killed
    run = instance.create_run_for_job(
        defined,
        run_id=run_id,
        tags=tags,
        run_config=run_config,
        remote_job_origin=job_origin(settings, job),
        asset_selection=frozenset(assets) if assets else None,
    )
    result = execute_run(InMemoryJob(defined), run, instance)
    mark_ended(settings, run_id)
    return result


def job_origin(settings: Settings, job: str) -> RemoteJobOrigin:
    """The job as the UI knows it, which loads the checkout's `workspace.yaml`."""
    (location,) = location_origins_from_yaml_paths([str(settings.workspace_file)])
    return RemoteRepositoryOrigin(location, _REPOSITORY).get_job_origin(job)
