"""Makes a home ready: its folders, its instance of Dagster's settings, and the environment that child tools read."""

import os

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.lake import Lake
from hindcast.settings import Settings

_DAGSTER_YAML = """\
# Written by Hindcast at each start; state is in this folder.
telemetry: {enabled: false}
nux: {enabled: false}
run_monitoring: {enabled: true}
"""


def prepare(settings: Settings) -> None:
    """Creates what is missing under the home and exports `settings.environment()` to this process and its children.

    Raises:
        HindcastError: The home is of an earlier layout, or its path can't be written as the tools need it.
    """
    if found := [character for character in "?\\" if character in str(settings.home)]:
        raise HindcastError(f"HINDCAST_HOME {settings.home} has a {found[0]} in it: choose a path without.")
    if (settings.home / "champion.json").exists():  # of the time when a home held one problem
        raise HindcastError(f"The home {settings.home} is of an earlier version: set HINDCAST_HOME to another folder.")
    for folder in (
        settings.dagster_home,
        settings.scratch,
        settings.feast_registry.parent,
        settings.bento_store,
    ):
        folder.mkdir(parents=True, exist_ok=True)
    config = settings.dagster_home / "dagster.yaml"
    if not config.exists() or config.read_text() != _DAGSTER_YAML:
        write_atomically(config, _DAGSTER_YAML)
    os.environ.update(settings.environment())
    Lake(settings).install_extensions()
