"""The sources file: what it accepts, and how it says what is wrong."""

import sys
from pathlib import Path

import pytest
import yaml

from hindcast.errors import HindcastError
from hindcast.settings import Settings
from hindcast.sources import load_sources

TABLE = {"file": "a.csv", "format": "csv", "columns": {"id": "INTEGER", "value": "DOUBLE"}}


def write(folder: Path, content: dict) -> Path:
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    "path", sorted(Settings.from_environment().sources_folder.glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_sources_file_of_the_project_is_valid(path: Path) -> None:
    assert load_sources(path).tables


def test_tables_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump({"folder": ".", "tables": {"b": TABLE, "a": TABLE}}, sort_keys=False))
    assert list(load_sources(path).tables) == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colums": {}}, r"some\.yaml: tables\.readings\.colums: unknown key"),
        ({"format": "xls"}, r"tables\.readings\.format"),
        ({"columns": {"_line": "BIGINT"}}, "underscore"),
        ({"columns": {"id": "INTEGER", "ID": "INTEGER"}}, "differ"),
        ({"known": {"later": {"end": {"at": "id", "columns": ["gone"]}}}}, "gone is not among the columns"),
        ({"month": "TIMESTAMP '2024-01-01'"}, "starts: missing, and readings"),
        (
            {"lookups": {"place": {"table": "places", "column": "zone", "match": {"id": "id"}}}},
            "places must be a table declared before",
        ),
        ({"format": "parquet", "file": "a.parquet.gz"}, "compressed inside"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = write(tmp_path, {"folder": ".", "tables": {"readings": TABLE | change}})
    with pytest.raises(HindcastError, match=message):
        load_sources(path)


def test_files_come_from_a_package_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(HindcastError, match="either package or folder"):
        load_sources(write(tmp_path, {"package": "a", "folder": "b", "tables": {"readings": TABLE}}))


def test_a_missing_file_names_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, {"folder": ".", "tables": {"readings": TABLE}})
    with pytest.raises(HindcastError, match="there are: some"):
        load_sources(tmp_path / "other.yaml")


def test_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shipped_readings"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = load_sources(write(tmp_path, {"package": "shipped_readings", "tables": {"readings": TABLE}}))
    assert sources.origin(tmp_path) == (package, "shipped_readings")
    assert "shipped_readings" not in sys.modules


def test_a_package_of_data_alone_is_found_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hindcast.sources.DATA_PACKAGES", tmp_path)
    sources = load_sources(write(tmp_path, {"package": "shipped_data", "tables": {"readings": TABLE}}))
    with pytest.raises(HindcastError, match=r"shipped_data.*is not installed: run `make setup`"):
        sources.origin(tmp_path)
    (tmp_path / "shipped_data").mkdir()
    assert sources.origin(tmp_path) == (tmp_path / "shipped_data", "shipped_data")
    with pytest.raises(HindcastError, match=r"the file .*a\.csv is missing"):
        sources.files("readings", tmp_path)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    sources = load_sources(write(tmp_path, {"package": "no_such_readings", "tables": {"readings": TABLE}}))
    with pytest.raises(HindcastError, match="no_such_readings is not installed"):
        sources.origin(tmp_path)


def test_a_folder_is_relative_to_the_checkout(tmp_path: Path) -> None:
    sources = load_sources(write(tmp_path, {"folder": "data", "tables": {"readings": TABLE}}))
    with pytest.raises(HindcastError, match="no folder"):
        sources.origin(tmp_path)
    (tmp_path / "data").mkdir()
    assert sources.origin(tmp_path) == (tmp_path / "data", "data")
