"""The lake: what is said where it can't be opened, and that large queries spill to disk."""

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable
from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.conftest import ROOT


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    settings = Settings(tmp_path / "checkout", tmp_path / "home")
    settings.lake_catalogue.parent.mkdir(parents=True)
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("CREATE TABLE main.numbers AS SELECT 1 AS number")
    return lake


def why_not(lake: Lake, snapshot: int | None = None) -> str:
    with pytest.raises(HindcastError) as error, lake.reading(snapshot):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def numbers(lake: Lake) -> list[int]:
    with lake.reading() as connection:
        return [number for (number,) in connection.execute("SELECT number FROM main.numbers ORDER BY 1").fetchall()]


def test_what_another_process_has_written_is_read(lake: Lake) -> None:
    assert numbers(lake) == [1]
    script = (
        "import sys; from pathlib import Path; from hindcast.lake import Lake; from hindcast.settings import Settings\n"
        "with Lake(Settings(*map(Path, sys.argv[1:]))).writing() as lake:\n"
        "    lake.execute('ALTER TABLE main.numbers ADD COLUMN name VARCHAR')\n"
        "    lake.execute(\"INSERT INTO main.numbers VALUES (2, 'two')\")"
    )
    subprocess.run([sys.executable, "-c", script, lake.settings.root, lake.settings.home], check=True, cwd=ROOT)
    assert numbers(lake) == [1, 2]
    with lake.writing() as connection:
        connection.execute("UPDATE main.numbers SET name = 'one' WHERE number = 1")
    with lake.reading() as connection:
        assert connection.execute("SELECT name FROM main.numbers ORDER BY 1").fetchall() == [("one",), ("two",)]


def test_a_home_that_is_made_anew_is_another(lake: Lake) -> None:
    for content in (7, 8):
        shutil.rmtree(lake.settings.home)
        assert not lake.exists("main.numbers")
        with lake.writing() as connection:
            connection.execute(f"CREATE TABLE main.numbers AS SELECT {content} AS number")
        assert numbers(lake) == [content]


def test_what_was_not_committed_is_gone_and_the_next_writer_goes_on(lake: Lake) -> None:
    with pytest.raises(duckdb.Error), lake.writing() as connection:
        connection.execute("INSERT INTO main.numbers VALUES (2)")
        connection.execute("CREATE TEMP TABLE scratch AS SELECT 1")
        connection.execute("no SQL")
    assert numbers(lake) == [1]
    with lake.writing() as connection:
        connection.execute("CREATE TEMP TABLE scratch AS SELECT 1")
        connection.execute("INSERT INTO main.numbers VALUES (3)")
    assert numbers(lake) == [1, 3]


def test_settings_of_one_reading_are_not_anothers(lake: Lake) -> None:
    setting = "SELECT current_setting('threads'), current_setting('TimeZone')"
    with lake.reading() as plain, lake.reading(config={"threads": "1"}) as single:
        threads, zone = plain.execute(setting).fetchall()[0]
        assert single.execute(setting).fetchall() == [(1, "UTC")]
        assert (threads, zone) == (os.cpu_count(), "UTC")


def moved(lake: Lake) -> Lake:
    """The same lake, in another place, in which this process hasn't opened it."""
    settings = replace(lake.settings, home=lake.settings.home.with_name("moved"))
    shutil.copytree(lake.settings.home, settings.home)
    return replace(lake, settings=settings)


def test_a_lake_of_another_format_is_named_with_what_was_expected(lake: Lake) -> None:
    lake = moved(lake)
    with sqlite3.connect(lake.settings.lake_catalogue) as catalogue:
        (ours,) = catalogue.execute("SELECT value FROM ducklake_metadata WHERE key = 'version'").fetchone()
        catalogue.execute("UPDATE ducklake_metadata SET value = '0.3' WHERE key = 'version'")
    said = why_not(lake)
    assert f"{lake.settings.lake_catalogue} is of format 0.3" in said
    assert f"reads {ours}" in said
    with pytest.raises(HindcastError, match=r"is of format 0\.3"), lake.writing():
        pass


def test_what_is_no_lake_is_said_to_be_none(lake: Lake) -> None:
    lake.settings.lake_catalogue.write_text("a shopping list")
    assert "can't be opened" in why_not(lake)
    assert "file is not a database" in why_not(lake)


def test_a_snapshot_that_there_is_not_is_named(lake: Lake) -> None:
    assert why_not(lake, snapshot=999).endswith("has no snapshot 999.")


def test_a_home_without_a_lake_is_told_how_to_make_one(tmp_path: Path) -> None:
    assert "`hindcast run` makes it" in why_not(Lake(Settings(tmp_path, tmp_path / "home")))


ROWS = 400_000


def history(memory_limit: str, **more: Any) -> pa.Table:
    """The rows that ever count of a feature table with eight features and late rows, read within so much memory."""
    connection = duckdb.connect(config={"memory_limit": memory_limit, "threads": 1} | more)
    minute = "TIMESTAMP '2020-01-01' + to_minutes(i * 7919 % 100_003)"
    features = ", ".join(f"CAST(i * {n} AS DOUBLE) AS f{n}" for n in range(8))
    connection.execute(
        f"CREATE SCHEMA features; CREATE TABLE features.history AS "
        f"SELECT i % 1000 AS k, {minute} AS event_timestamp, {minute} + to_minutes(i % 60) AS created, {features} "
        f"FROM range({ROWS}) t(i)"
    )
    names = {f"f{n}": f"f{n}" for n in range(8)}
    table = FeatureTable("features.history", {"k": "k"}, "event_timestamp", "created", features=names)
    rows = table.history(datetime(2020, 1, 1), datetime(2021, 1, 1))
    return connection.execute(f"FROM ({rows}) ORDER BY ALL").to_arrow_table()


def test_a_query_that_does_not_fit_in_memory_spills_and_gives_the_same(tmp_path: Path) -> None:
    tight = "70MB"
    with pytest.raises(duckdb.OutOfMemoryException):
        history(tight, temp_directory="")
    spilled = history(tight, temp_directory=str(tmp_path / "spilled"))
    assert spilled.equals(history("4GB"))
    assert 0 < spilled.num_rows <= ROWS
    assert np.asarray(spilled["f1"]).max() == ROWS - 1


def test_a_lake_has_one_identity_that_its_copy_shares_and_no_other_has(tmp_path: Path) -> None:
    one, other = (Lake(Settings(tmp_path, tmp_path / name)) for name in ("one", "other"))
    found = one.identity()
    snapshot = one.snapshot()
    assert one.identity() == found
    assert one.snapshot() == snapshot  # asking again writes nothing
    assert other.identity() != found
    assert other.snapshot() == snapshot
    shutil.copytree(one.settings.lake_catalogue.parent, tmp_path / "copy" / "lake")
    with sqlite3.connect(tmp_path / "copy" / "lake" / "catalogue.sqlite") as catalogue:  # it keeps where its files lie
        moved = f"{tmp_path / 'copy' / 'lake' / 'data'}/"
        catalogue.execute("UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'", [moved])
    assert Lake(Settings(tmp_path, tmp_path / "copy")).identity() == found


def test_a_python_variable_is_never_taken_for_a_table(settings: Settings) -> None:
    readings = pl.DataFrame({"id": [1]})
    with Lake(settings).writing() as connection:
        with pytest.raises(duckdb.CatalogException, match="readings"):
            connection.execute("FROM readings")
        connection.register("given", readings.to_arrow())
        assert connection.execute("FROM given").fetchall() == [(1,)]
