"""The dbt documentation as one page that opens without a server."""

import subprocess
import sys
from pathlib import Path

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.lake import Lake
from hindcast.settings import Settings


def write_dbt_docs(settings: Settings) -> Path:
    """Writes models, columns, tests and lineage as one self-contained HTML page.

    Raises:
        HindcastError: There is no lake to describe yet, or dbt failed; its last lines are in the message.
    """
    if not settings.lake_catalogue.exists():
        raise HindcastError(f"No lake at {settings.lake_catalogue} yet to document: run `make run` first.")
    command = [str(Path(sys.executable).with_name("dbt")), "docs", "generate", "--static"]
    with Lake(settings).turn():  # dbt attaches the lake for writing
        done = subprocess.run(
            [*command, "--project-dir", str(settings.dbt_project)], cwd=settings.root, capture_output=True, text=True
        )
    if done.returncode:
        raise HindcastError("dbt docs failed:\n" + "\n".join(done.stdout.splitlines()[-15:]))
    page = settings.docs / "index.html"
    write_atomically(page, (settings.dbt_target / "static_index.html").read_bytes())
    return page
