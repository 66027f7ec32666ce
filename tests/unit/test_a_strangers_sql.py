"""The SQL of another problem, on a fresh home: what dbt always reads is there, and raw tables are read as known."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sources import Sources
from hindcast.tables.ingest import ingest
from hindcast.tables.transform import build
from tests.conftest import ROOT
from tests.control import write_control
from tests.made_up_problem import parcels_problem

SOURCES = "version: 2\nsources: [{name: raw, database: lake, schema: raw, tables: [{name: houses}]}]\n"


class World:
    """A checkout with one source table and one model, and its home."""

    def __init__(self, folder: Path, sql: str) -> None:
        self.settings = Settings(folder / "checkout", folder / "home")
        project = self.settings.dbt_project
        ignored = shutil.ignore_patterns("models", "seeds")
        shutil.copytree(ROOT / "dbt_project", project, ignore=ignored)
        (project / "seeds").mkdir()
        staging = project / "models" / "flights" / "staging"
        staging.mkdir(parents=True)
        (staging / "sources.yml").write_text(SOURCES)
        (staging / "stg_houses.sql").write_text(sql)
        self.lake = Lake(self.settings)

    def deliver(self, day: int, *rows: str) -> None:
        files = self.settings.root / "files"
        files.mkdir(exist_ok=True)
        (files / "houses.csv").write_text("\n".join(["id,price", *rows]) + "\n")
        table = {"file": "houses.csv", "format": "csv", "columns": {"id": "INTEGER", "price": "INTEGER"}, "key": ["id"]}
        sources = Sources.model_validate({"folder": "files", "tables": {"houses": table}})
        ingest(self.lake, sources, "houses", datetime(2024, 1, day, tzinfo=UTC), self.settings)

    def build(self) -> str:
        (result,) = build(self.settings, ["stg_houses"])
        return result.status if not result.failed else f"{result.status}: {result.message}"

    def rows(self) -> list[tuple]:
        with self.lake.reading() as connection:
            return connection.execute("SELECT id, price FROM cleaned.stg_houses ORDER BY ALL").fetchall()


def test_sql_that_never_asks_for_the_clock_runs_on_a_fresh_home(tmp_path: Path) -> None:
    world = World(tmp_path, "select * from {{ source('raw', 'houses') }}")
    world.deliver(1, "1,100", "2,200")
    assert world.build() == "success"
    assert world.rows() == [(1, 100), (2, 200)]


def test_a_raw_table_is_read_as_known_without_a_word_of_the_sql(tmp_path: Path) -> None:
    world = World(tmp_path, "select * from {{ source('raw', 'houses') }}")
    world.deliver(1, "1,100", "2,200")
    world.deliver(10, "1,110")
    assert world.build() == "success"
    assert world.rows() == [(1, 110)]
    at = datetime(2024, 1, 9, tzinfo=UTC)
    write_control(world.lake, parcels_problem(), at, datetime(2024, 1, 2, tzinfo=UTC))
    assert world.build() == "success"
    assert world.rows() == [(1, 100), (2, 200)]


@pytest.mark.parametrize("name", ["results", "context", "model", "settings", "connection", "fresh"])
def test_a_python_variable_is_never_taken_for_a_table(tmp_path: Path, name: str) -> None:
    world = World(tmp_path, f"select * from {name}")
    world.deliver(1, "1,100")
    assert f"Table with name {name} does not exist" in world.build()
