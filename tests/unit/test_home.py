"""A home: where it may lie, that it can be moved, whose it is, and what its files' modes are."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.home import prepare
from hindcast.lake import Lake
from hindcast.promotion.champion import champion_folder, current
from hindcast.settings import Settings
from tests.conftest import ROOT

IMPORTS = ("hindcast.cli", "hindcast.workspace", "hindcast.pipeline", "hindcast.status")
ODD = ["plain", "two words", "it's", 'a "b"', "100%", "h#h", "ä日本", "a;b", "$x", "{{ x }}"]


def test_numpy_is_not_loaded_before_the_homes_environment_is_there() -> None:
    """It reads there how many threads it may use."""
    code = f"import sys, {', '.join(IMPORTS)}; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def numbers(lake: Lake) -> int:
    with lake.reading() as connection:
        return connection.execute("SELECT sum(n) FROM main.numbers").fetchall()[0][0]


@pytest.mark.parametrize("name", ODD)
def test_a_lake_may_lie_anywhere_and_be_moved(settings: Settings, tmp_path: Path, name: str) -> None:
    there = Lake(replace(settings, home=tmp_path / name))
    with there.writing() as connection:
        connection.execute("CREATE TABLE main.numbers AS SELECT range AS n FROM range(1000)")
    moved = Lake(replace(settings, home=tmp_path / f"moved {name}"))
    shutil.move(there.settings.home, moved.settings.home)
    assert numbers(moved) == 499_500
    with moved.writing() as connection:
        connection.execute("INSERT INTO main.numbers SELECT 1 FROM range(500)")
    assert numbers(moved) == 500_000
    assert not there.settings.home.exists()


@pytest.mark.parametrize("name", ["what?", "back\\slash"])
def test_a_path_that_a_tool_misreads_is_refused(settings: Settings, tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with pytest.raises(HindcastError) as error:
        prepare(replace(settings, home=home))
    assert str(home) in str(error.value)
    assert not home.exists()


def test_a_home_of_an_earlier_layout_is_refused(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "champion.json").write_text("{}")
    with pytest.raises(HindcastError, match="is of an earlier version: set HINDCAST_HOME to another folder"):
        prepare(settings)


def test_the_champion_is_found_where_the_home_is_now(settings: Settings) -> None:
    """Also by an entry that was written with the paths of before."""
    entry = {"version": "m1", "path": "/gone/models/m1", "verdict": "/gone/verdicts/m1.json", "previous": None}
    entry["promoted_at"] = datetime(2024, 1, 1, tzinfo=UTC).isoformat()
    write_atomically(settings.champion_file, json.dumps(entry | {"history": [entry]}))
    champion = current(settings)
    assert champion
    assert champion_folder(settings) == settings.models / "m1"
    for found in (champion, *champion["history"]):
        assert (found["version"], found["verdict"], "path" in found) == ("m1", "m1.json", False)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file.json", "{}")
    finally:
        os.umask(before)
    assert (tmp_path / "file.json").stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
