"""Makes a home ready: its folders, its instance of Dagster's settings, and the environment that child tools read."""

import os

from hindcast.artefacts import read_json, write_json
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
        HindcastError: The home is another problem's, or its path can't be written as the tools need it.
    """
    if found := [character for character in "?\\" if character in str(settings.home)]:
        raise HindcastError(f"HINDCAST_HOME {settings.home} has a {found[0]} in it: choose a path without.")
    _claim(settings)
    for folder in (
        settings.dagster_home,
        settings.scratch,
        settings.feast_registry.parent,
        settings.bento_store,
        settings.reports,
    ):
        folder.mkdir(parents=True, exist_ok=True)
    config = settings.dagster_home / "dagster.yaml"
    if not config.exists() or config.read_text() != _DAGSTER_YAML:
        write_atomically(config, _DAGSTER_YAML)
    os.environ.update(settings.environment())
    Lake(settings).install_extensions()


def _claim(settings: Settings) -> None:
    """Has the home remember its problem. One that holds no tables yet may still be another's."""
    of = (read_json(settings.home_file) or {}).get("problem")
    if of == settings.problem:
        return
    if of is not None and settings.lake_catalogue.exists():
        raise HindcastError(
            f"The home {settings.home} is that of {of}: for {settings.problem}, set HINDCAST_HOME to another folder."
        )
    write_json(settings.home_file, {"problem": settings.problem})
