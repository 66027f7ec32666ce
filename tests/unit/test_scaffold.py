"""What `hindcast new` guesses, writes and refuses. That what it writes runs is for the end-to-end tests."""

import csv
import shutil
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from hindcast.cli import cli
from hindcast.errors import HindcastError
from hindcast.problem import load_problem
from hindcast.sources import load_sources
from tests.conftest import ROOT
from tests.own_data import DATA


@pytest.fixture(scope="module")
def checkout_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scaffold") / "checkout"
    for name in ("problems", "dbt_project", "feature_repo"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def root(checkout_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    shutil.copytree(checkout_files, root)
    (root / "files").mkdir()
    monkeypatch.setenv("HINDCAST_ROOT", str(root))
    monkeypatch.setenv("HINDCAST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(root)
    return root


def new(*options: str) -> str:
    """The command's output; its error as an exception."""
    result: Result = CliRunner().invoke(cli, ["new", *options])
    if isinstance(result.exception, HindcastError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def visits(numbers: int = 1200) -> list[dict[str, Any]]:
    """A visit an hour; `code` has leading zeros, `age` is at times NA, `left_at` is 30 hours after the visit."""
    start = datetime(2024, 1, 1)
    return [
        {
            "visit": number,
            "came_at": start + timedelta(hours=number),
            "ward": "north" if number % 3 else "south",
            "code": f"{number % 40:03}",
            "age": "NA" if number % 10 == 0 else 20 + number % 50,
            "left_at": start + timedelta(hours=number + 30),
            "stayed": int(number % 7 < 3),
        }
        for number in range(numbers)
    ]


@pytest.mark.parametrize("name", DATA)
def test_each_data_set_becomes_files_that_are_read_and_sound(root: Path, name: str) -> None:
    DATA[name].write(root / "files")
    said = new(f"my_{name}", "--from", "files", *DATA[name].options, "--yes")
    assert f"Next: hindcast run my_{name}" in said
    load_problem(root / "problems" / f"my_{name}.yaml")
    sources = load_sources(root / "problems" / "sources" / f"my_{name}.yaml")
    assert sources.folder == Path("files")  # relative, so that the checkout can be moved
    result = CliRunner().invoke(cli, ["check", f"my_{name}"])
    assert result.output == f"No faults in my_{name}.\n"


def test_names_that_are_words_of_sql_are_quoted_and_offsets_are_reckoned_in(root: Path) -> None:
    rows = [
        {
            "order": row["visit"],
            "group": row["code"],
            "when": f"{row['came_at']:%Y-%m-%dT%H:%M:%S}+02:00",
            "label": row["stayed"],
        }
        for row in visits()
    ]
    write_rows(root / "files" / "visits.csv", rows)
    options = ("--key", "order", "--asked-at", '"when"', "--label", "label", "--known-after", "1d", "--per", "group")
    said = new("stays", "--from", "files", *options)
    assert "as of 2024-02-13 00:00 UTC, from 1,034 rows" in said  # the first came at 22:00 the day before
    models = root / "dbt_project" / "models" / "stays"
    assert r'keys=["\"group\""]' in (models / "features" / "stays_by_group.sql").read_text()
    assert '"when" as prediction_time' in (models / "staging" / "stg_stays_visits.sql").read_text()
    assert CliRunner().invoke(cli, ["check", "stays"]).output == "No faults in stays.\n"


def test_a_part_of_another_files_time_is_no_key_of_it(root: Path) -> None:
    """On (ward, hour) the row of the hour asked about would be looked up, which nobody has yet; not the latest one."""
    rows = [row | {"hour": row["came_at"].hour} for row in visits()]
    write_rows(root / "files" / "visits.csv", rows)
    beds = [
        {"measured_at": row["came_at"], "hour": row["hour"], "ward": ward, "beds": row["visit"] % 9}
        for row in rows
        for ward in ("north", "south")
    ]
    write_rows(root / "files" / "beds.csv", beds)
    said = new(
        "stays", "--from", "files", "--label", "stayed", "--known-of", "beds=measured_at + INTERVAL 1 HOUR", "--yes"
    )
    assert "looked up       stays_beds by ward, as known then" in said
    described = yaml.safe_load((root / "dbt_project/models/stays/features/_features.yml").read_text())["models"]
    (latest,) = [model for model in described if model["name"] == "stays_beds_latest"]
    assert [column["name"] for column in latest["columns"]] == ["ward", "event_timestamp", "beds_beds"]
    table = load_sources(root / "problems" / "sources" / "stays.yaml").tables["stays_beds"]
    assert table.known.at == "measured_at + INTERVAL 1 HOUR"


def test_what_is_guessed_is_said_and_errs_on_the_side_of_caution(root: Path) -> None:
    write_rows(root / "files" / "visits.csv", visits())
    said = new("stays", "--from", "files/visits.csv", "--yes")
    for line in (
        "asked at        came_at",
        "known at        left_at",
        "with a request  ward, code, age",
        "known later     stayed: the label is made of it",
        "known later     left_at: an instant after the prediction time",
        "history per     code",
        "--label stayed",
        "--key visit",
        "--task binary",
    ):
        assert line in said
    sources = load_sources(root / "problems" / "sources" / "stays.yaml").tables["stays_visits"]
    assert sources.columns["code"] == "VARCHAR"  # 007 is no 7
    assert (sources.columns["age"], "NA" in sources.nulls) == ("BIGINT", True)
    assert (sources.known.at, sources.known.later["outcome"].at) == ("came_at", "left_at")
    assert sources.known.later["outcome"].columns == ("left_at", "stayed")


def test_a_column_that_tells_the_label_counts_as_known_later(root: Path) -> None:
    rows = [row | {"bill": 100 * row["stayed"] + row["visit"] % 5} for row in visits()]
    rows = [row | {"reason": None if row["stayed"] else "none"} for row in rows]
    write_rows(root / "files" / "visits.csv", rows)
    options = ("--from", "files", "--key", "visit", "--asked-at", "came_at", "--label", "stayed", "--known-after", "3d")
    said = new("stays", *options)
    assert "known later     bill: alone it tells the label (ROC AUC 1.00)" in said
    assert "known later     reason: where it is missing, the label is always the same" in said
    said = new("other_stays", *options, "--known-when-asked", "ward, bill")
    assert "with a request  ward, bill\n" in said
    assert "known later     age: not listed in --known-when-asked" in said


def test_where_nothing_says_when_a_label_is_known_the_assumption_is_said(root: Path) -> None:
    write_rows(root / "files" / "visits.csv", [{k: v for k, v in row.items() if k != "left_at"} for row in visits()])
    said = new("stays", "--from", "files", "--key", "visit", "--asked-at", "came_at", "--label", "stayed", "--yes")
    assert "--known-after 1d: nothing in the files says when a label became known." in said
    assert "problems/sources/stays.yaml" in said
    assert "nothing in the files says" in (root / "problems" / "stays.yaml").read_text()


def test_an_event_that_may_not_happen_is_known_not_to_after_as_long_as_it_ever_takes(root: Path) -> None:
    rows = [row | {"left_at": row["left_at"] if row["stayed"] else ""} for row in visits()]
    write_rows(root / "files" / "visits.csv", rows)
    new("stays", "--from", "files", "--yes")
    table = load_sources(root / "problems" / "sources" / "stays.yaml").tables["stays_visits"]
    assert table.known.later["outcome"].at == "coalesce(CAST(left_at AS TIMESTAMP), came_at + to_minutes(1800))"


def test_files_of_one_form_are_one_table_and_zips_are_opened(root: Path) -> None:
    rows = visits()
    write_rows(root / "files" / "visits_1.csv", rows[:500])
    write_rows(root / "files" / "visits_2.csv", rows[500:])
    assert "visits*.csv: 1,200 rows" in new("stays", "--from", "files", "--yes")
    for file in (root / "files").iterdir():
        file.unlink()
    write_rows(root / "visits.csv", rows)
    with zipfile.ZipFile(root / "files" / "visits.csv.zip", "w") as archive:
        archive.write(root / "visits.csv", "visits.csv")
    assert "visits.csv.zip: 1,200 rows" in new("more_stays", "--from", "files", "--yes")
    pl.read_csv(root / "visits.csv", null_values="NA").write_parquet(root / "files" / "v.parquet")
    (root / "files" / "visits.csv.zip").unlink()
    options = ("--asked-at", "CAST(came_at AS TIMESTAMP)", "--key", "visit", "--label", "stayed", "--known-after", "2d")
    assert "v.parquet: 1,200 rows" in new("parquet_stays", "--from", "files", *options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), r"--from is missing"),
        (("--from", "nowhere.csv"), r"--from nowhere\.csv: there is no such file"),
        (("--from", "notes.txt"), r"only \.csv, \.parquet and \.jsonl files are read"),
        (("--from", "files"), r"--asked-at is missing; --yes would take came_at\."),
        (("--from", "files", "--asked-at", "arrived"), r"No file has all that .*arrived"),
        (("--from", "files", "--asked-at", "ward"), r"--asked-at ward: it gives VARCHAR, not an instant"),
        (("--from", "files", "--yes", "--key", "ward"), r"--key ward: north is on 800 rows .* --corrected-at"),
        (("--from", "files", "--yes", "--key", "visit, wing"), r"No file has all that"),
        (("--from", "files", "--yes", "--label", "age > 1000"), r"--label age > 1000: it has 1 different values"),
        (
            ("--from", "files", "--yes", "--task", "ranking"),
            r"--task ranking: there are binary, multiclass, regression",
        ),
        (
            ("--from", "files", "--yes", "--task", "regression", "--label", "ward"),
            r"needs numbers, and there is 'north'",
        ),
        (("--from", "files", "--yes", "--task", "binary", "--label", "code"), r"a yes or no has two values"),
        (("--from", "files", "--yes", "--known-at", "came_at - INTERVAL 1 DAY"), r"known before they are asked about"),
        (("--from", "files", "--yes", "--known-after", "20d"), r"too few for training, validation and test windows"),
        (("--from", "files", "--yes", "--known-at", "left_at", "--known-after", "1d"), r"not both"),
        (("--from", "files", "--yes", "--as-of", "2030-01-01"), r"--as-of 2030-01-01: the data is asked about from"),
        (("--from", "files", "--yes", "--per", "wing"), r"wing: visits\.csv has no such column"),
        (("--from", "files", "--yes", "--known-of", "weather"), r"--known-of weather: write the table, =, and SQL"),
        (("--from", "files", "--yes", "--known-of", "weather=now()"), r"--known-of weather: there is no such table"),
        (("--domain", "rivers", "--label", "1"), r"--domain rivers: there are dengue, flights"),
        (("--domain", "flights", "--label", "1"), r"--like: name the problem .* arrival_delay, flight_delay"),
        (("--domain", "dengue"), r"--label is missing: SQL over the columns of labeled\.township_weeks"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(root: Path, options: tuple[str, ...], said: str) -> None:
    write_rows(root / "files" / "visits.csv", visits())
    (root / "notes.txt").write_text("visit\n1\n")
    before = tree(root)
    with pytest.raises(HindcastError, match=said):
        new("stays", *options)
    assert tree(root) == before


@pytest.mark.parametrize("name", ["flights", "dengue", "select", "Stays", "a-b"])
def test_a_name_that_is_taken_or_cant_be_one_is_refused(root: Path, name: str) -> None:
    write_rows(root / "files" / "visits.csv", visits())
    with pytest.raises(HindcastError, match=name):
        new(name, "--from", "files", "--yes")


def test_nothing_is_overwritten_and_the_project_gains_one_line(root: Path) -> None:
    write_rows(root / "files" / "visits.csv", visits())
    before = tree(root)
    new("stays", "--from", "files", "--yes")
    after = tree(root)
    changed = [path for path in before if before[path] != after[path]]
    assert changed == ["dbt_project/dbt_project.yml"]
    project = (root / "dbt_project" / "dbt_project.yml").read_text()
    assert project.count("    stays: *stages\n") == 1
    assert (
        yaml.safe_load(project)["models"]["hindcast"]["stays"]
        == yaml.safe_load(project)["models"]["hindcast"]["dengue"]
    )
    with pytest.raises(HindcastError, match="There is a domain or a problem stays already"):
        new("stays", "--from", "files", "--yes")
    assert tree(root) == after


def test_a_further_question_shares_rows_and_features(root: Path) -> None:
    new("very_late", "--domain", "flights", "--like", "arrival_delay", "--label", "arrival_delay_minutes > 60",
        "--task", "binary")  # fmt: skip
    problem = load_problem(root / "problems" / "very_late.yaml")
    like = load_problem(root / "problems" / "arrival_delay.yaml")
    assert (problem.task, problem.domain, problem.splits) == ("binary", "flights", like.splits)
    assert 'very_late = service("very_late")' in (root / "feature_repo" / "flights.py").read_text()
    result = CliRunner().invoke(cli, ["check", "very_late"])
    assert result.output == "No faults in very_late.\n"
    new("many_cases", "--domain", "dengue", "--label", "CASE WHEN cases > 9 THEN 'many' ELSE 'few' END",
        "--task", "multiclass")  # fmt: skip
    assert load_problem(root / "problems" / "many_cases.yaml").label.classes == ("few", "many")
    assert CliRunner().invoke(cli, ["check", "many_cases"]).output == "No faults in many_cases.\n"
