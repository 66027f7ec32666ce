"""Rows that could not be read are listed with file, line, column, reason and text, and counted by reason."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from hindcast.cli import cli
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sources import load_sources
from hindcast.tables.ingest import ingest
from hindcast.tables.rejected import Rejected, count_reasons, explain_rejected, list_rejected
from tests.conftest import ROOT

SOURCES = """
folder: files
tables:
  shops:
    file: shops.csv
    format: csv
    columns: {shop: VARCHAR, opened: INTEGER, size: DOUBLE}
  streets:
    file: streets.csv
    format: csv
    columns: {street: VARCHAR}
"""
SHOPS = "shop,opened,size\nA,1990,1.5\nB,lately,2\nC,long ago,2\nD,2000,large\nE,2001,3\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home into which two small tables were ingested, one with three rows that can't be read."""
    (tmp_path / "problems" / "sources").mkdir(parents=True)
    problem = (ROOT / "problems" / "flight_delay.yaml").read_text().replace("domain: flights", "domain: town")
    (tmp_path / "problems" / "flight_delay.yaml").write_text(problem)
    (tmp_path / "problems" / "sources" / "town.yaml").write_text(SOURCES)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "shops.csv").write_text(SHOPS)
    (tmp_path / "files" / "streets.csv").write_text("street\nHigh Street\n")
    for name in ("dbt_project", "feature_repo", "requirements.lock"):
        (tmp_path / name).symlink_to(ROOT / name)
    settings = Settings(tmp_path, tmp_path / "home")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HINDCAST_ROOT", str(tmp_path))
    sources = load_sources(settings.sources_folder / "town.yaml")
    for table in sources.tables:
        ingest(Lake(settings), sources, table, datetime(2020, 1, 1, tzinfo=UTC), settings)
    return settings


def test_they_are_listed_with_file_line_column_reason_and_text(settings: Settings) -> None:
    found = list_rejected(Lake(settings))
    assert found[0] == Rejected("shops", "files/shops.csv", 3, "opened", '"lately" is not INTEGER', "B,lately,2")
    assert [(each.line, each.column) for each in found] == [(3, "opened"), (4, "opened"), (5, "size")]
    assert list_rejected(Lake(settings), "shops", 1) == found[:1]
    assert list_rejected(Lake(settings), "streets") == []


def test_reasons_are_counted_the_most_frequent_first(settings: Settings) -> None:
    counts = count_reasons(Lake(settings), "shops")
    assert list(counts.items()) == [("opened: not INTEGER", 2), ("size: not DOUBLE", 1)]


def test_the_check_says_how_many_why_and_how_to_list_them(settings: Settings) -> None:
    assert explain_rejected(Lake(settings), "shops", 5, 0.01, "town") == (
        "3 rows of 5 rejected, 60.00% (limit 1.00%): opened: not INTEGER (2); size: not DOUBLE (1). "
        "E.g. line 3 of files/shops.csv; `hindcast rejected shops` lists them. "
        "Look at problems/sources/town.yaml: tables.shops.max_rejected_share and columns."
    )
    assert explain_rejected(Lake(settings), "streets", 1, 0.01, "town") == "No row of 1 was rejected (limit 1.00%)."


def test_the_command_lists_them(settings: Settings) -> None:
    shown = CliRunner().invoke(cli, ["rejected", "shops", "--limit", "2"], catch_exceptions=False).output
    assert shown.splitlines() == [
        'raw.shops  files/shops.csv, line 3: "lately" is not INTEGER',
        "    B,lately,2",
        'raw.shops  files/shops.csv, line 4: "long ago" is not INTEGER',
        "    C,long ago,2",
        "3 rejected rows, the first 2 shown.",
        "Why: opened: not INTEGER (2); size: not DOUBLE (1)",
    ]
    found = json.loads(CliRunner().invoke(cli, ["rejected", "--json"], catch_exceptions=False).output)
    assert [each["line"] for each in found] == [3, 4, 5]
    assert CliRunner().invoke(cli, ["rejected", "raw.streets"]).output == "No row was rejected.\n"


def test_a_table_that_is_not_declared_is_named(settings: Settings) -> None:
    done = CliRunner().invoke(cli, ["rejected", "shop"])
    assert str(done.exception) == "The sources declare no table shop; there are: shops, streets."


def test_before_anything_was_ingested_there_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_HOME", str(settings.root / "empty"))
    assert CliRunner().invoke(cli, ["rejected"], catch_exceptions=False).output == "No row was rejected.\n"
