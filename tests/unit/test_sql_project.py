"""Rules that hold for all models: described by their grain, tested on their keys, portable but for the macros."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hindcast.errors import HindcastError
from hindcast.settings import Settings
from hindcast.tables.transform import build, manifest
from tests.conftest import ROOT

MODELS = sorted((ROOT / "dbt_project" / "models").rglob("*.sql"))
ONLY_DUCKDB = (
    r"\basof\b|\bepoch\(|::|\bto_minutes\(|\btimezone\(|\btime_bucket\(|\bgenerate_series\(|\bunnest\(|\blist_\w+\("
    r"|\bgroup by all\b|\bexclude\b|\bstrftime\(|\bat time zone\b"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    yield manifest(Settings(ROOT, tmp_path_factory.mktemp("home")))


def nodes(project: dict[str, Any], kind: str, schema: str | None = None) -> list[dict[str, Any]]:
    return [
        node
        for node in project["nodes"].values()
        if node["resource_type"] == kind and (schema is None or node["schema"] == schema)
    ]


def test_every_table_says_its_grain_first(project: dict[str, Any]) -> None:
    tables = nodes(project, "model") + nodes(project, "seed")
    assert [table["name"] for table in tables if not table["description"].startswith("One row per ")] == []


def test_marts_have_contracts_and_every_column_a_description(project: dict[str, Any]) -> None:
    for schema in ("labeled", "features"):
        for model in nodes(project, "model", schema):
            assert model["contract"]["enforced"], model["name"]
            assert [column for column, is_ in model["columns"].items() if not is_["description"]] == [], model["name"]


def rules(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the test of a table's rows holds, by table."""
    tests = [test for test in nodes(project, "test") if test["test_metadata"]["name"] == "rows_hold"]
    assert len({test["attached_node"] for test in tests}) == len(tests)
    return {test["attached_node"]: test["test_metadata"]["kwargs"] for test in tests}


def test_every_key_is_tested_to_be_unique_and_there(project: dict[str, Any]) -> None:
    held = rules(project)
    for table in nodes(project, "model") + nodes(project, "seed"):
        assert held[table["unique_id"]]["key"], table["name"]


def test_no_feature_claims_to_be_known_in_the_future(project: dict[str, Any]) -> None:
    tested = {
        table.split(".")[-1] for table, rule in rules(project).items() if "event_timestamp" in rule.get("known_at", [])
    }
    assert tested == {model["name"] for model in nodes(project, "model", "features")}


def test_every_asked_for_case_has_a_unit_test(project: dict[str, Any]) -> None:
    tested = {test["model"] for test in project["unit_tests"].values()}
    assert tested >= {
        "stg_flights",
        "int_flights",
        "flight_outcomes",
        "flight_splits",
        "arrival_delays",
        "flight_outcome_classes",
        "origin_state",
        "aircraft_state",
        "stg_dengue_cases",
        "township_weeks",
        "township_cases",
    }


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_what_only_duckdb_knows_stands_behind_macros(path: Path) -> None:
    sql = re.sub(r"--.*", "", path.read_text())
    assert re.findall(ONLY_DUCKDB, sql, re.IGNORECASE) == []


def test_every_rule_that_a_model_names_has_a_reason(project: dict[str, Any]) -> None:
    named = {
        rule
        for path in MODELS
        for call in re.findall(r"rules_touched\(\[(.*?)\]\)", path.read_text(), re.DOTALL)
        for rule in re.findall(r'"(\w+)"', call)
    }
    seeds = (ROOT / "dbt_project" / "seeds").glob("*/*cleaning_rule_reasons.csv")
    assert named == {line.split(",")[0] for seed in seeds for line in seed.read_text().splitlines()[1:]}


def test_what_is_built_is_there_and_the_only_one_of_its_name(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dbt_project", tmp_path / "dbt_project")
    settings = Settings(tmp_path, tmp_path / "home")
    with pytest.raises(HindcastError, match="nothing named stg_flihgts"):
        build(settings, ["stg_flihgts"])
    staging = tmp_path / "dbt_project" / "models" / "flights" / "staging" / "_staging.yml"
    staging.write_text(staging.read_text().replace("stg_planes_rows_hold", "stg_airports_rows_hold"))
    with pytest.raises(HindcastError, match="two things named stg_airports_rows_hold"):
        build(settings, ["stg_airports_rows_hold"])


def test_the_manifest_is_made_anew_only_when_the_sql_changed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dbt_project", tmp_path / "dbt_project")
    settings = Settings(tmp_path, tmp_path / "home")
    first = manifest(settings)
    kept = list((settings.dbt_target / "manifests").glob("*.json"))
    assert len(kept) == 1
    written = kept[0].stat().st_mtime_ns
    assert manifest(Settings(tmp_path, tmp_path / "home")) == first
    assert kept[0].stat().st_mtime_ns == written
    model = tmp_path / "dbt_project" / "models" / "flights" / "staging" / "stg_new.sql"
    model.write_text("select 1 as one\n")
    assert "model.hindcast.stg_new" in manifest(settings)["nodes"]
    assert "model.hindcast.stg_new" not in first["nodes"]
    model.write_text("{{ no such thing }}\n")
    with pytest.raises(HindcastError, match=r"stg_new\.sql"):
        manifest(settings)
