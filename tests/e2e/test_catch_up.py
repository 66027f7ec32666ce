"""Corrections beside a table that lags, kills while the past is built, and tables that can't keep a history.

Table `a` tells of parcels, each at its instant; table `b` of depots. `f_ab` is made from both.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sources import Sources
from hindcast.tables import catch_up as catching_up
from hindcast.tables.catch_up import catch_up
from hindcast.tables.ingest import ingest
from hindcast.tables.labels import entities_as_known
from hindcast.tables.transform import build, manifest
from tests.conftest import ROOT
from tests.control import workspace_of, write_control
from tests.made_up_problem import parcels_problem

MODELS = {
    "flights/staging/stg_a": "select id, k, v, seen, _known_at as known_at from {{ source('raw', 'a') }}",
    "flights/staging/stg_b": "select k, w, _known_at as known_at from {{ source('raw', 'b') }}",
    "flights/labeled/parcels": """
        select
            id as parcel_id, k as "De pot", seen + interval 1 day as asked_at,
            cast(v > 15 as integer) as late, seen + interval 2 day as late_known_at
        from {{ ref('stg_a') }}
    """,
    "flights/split/parcels_split": """
        select * from ({{ as_known_then(
            ref('parcels'), key='parcel_id', labels=['late', 'late_known_at'], prediction_time='asked_at',
            as_of=as_of('parcels')
        ) }}) as known
    """,
    "flights/features/f_ab": """
        select a.k, a.seen as event_timestamp, a.v as "my v", b.w
        from {{ ref('stg_a') }} as a left join {{ ref('stg_b') }} as b on a.k = b.k
        where {{ since_held('a.seen') }}
    """,
}
DESCRIBED: dict[str, Any] = {"f_ab": {"config": {"meta": {"entity_keys": ["k"]}}}}
TABLES: dict[str, Any] = {
    "a": {
        "file": "a.csv",
        "format": "csv",
        "key": ["id"],
        "columns": {"id": "INTEGER", "k": "INTEGER", "v": "INTEGER", "seen": "TIMESTAMP"},
        "known": {"at": "seen"},
    },
    "b": {"file": "b.csv", "format": "csv", "key": ["k"], "columns": {"k": "INTEGER", "w": "INTEGER"}},
}


def day(number: float) -> datetime:
    """The n-th day of 2024, UTC without saying so."""
    return datetime(2024, 1, 1) + timedelta(days=number - 1)


class World:
    def __init__(self, folder: Path, described: dict[str, Any] = DESCRIBED, **models: str) -> None:
        self.settings = Settings(folder / "checkout", folder / "home")
        project = self.settings.dbt_project
        shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("models", "seeds"))
        (project / "seeds").mkdir()
        for path, sql in MODELS.items():
            file = project / "models" / f"{path}.sql"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(models.get(path.split("/")[-1], sql) + "\n")
        names = [path.split("/")[-1] for path in MODELS]
        listed = [{"name": name, "config": {"contract": {"enforced": False}}} for name in names]
        for each in listed:
            each["config"] |= described.get(each["name"], {}).get("config", {})
        sources = [
            {"name": "raw", "database": "lake", "schema": "raw", "tables": [{"name": "a"}, {"name": "b"}]},
            {
                "name": "control",
                "database": "lake",
                "schema": "control",
                "tables": [{"name": "instants"}, {"name": "windows"}],
            },
        ]
        text = yaml.safe_dump({"version": 2, "models": listed, "sources": sources})
        (project / "models" / "all.yml").write_text(text)
        (self.settings.root / "files").mkdir()
        self.lake, self.problem = (
            Lake(self.settings),
            parcels_problem(domain="flights", split_table="split.parcels_split"),
        )

    def deliver(self, number: int, **files: list[tuple]) -> None:
        sources = Sources.model_validate({"folder": "files", "starts": date(2024, 1, 1), "tables": TABLES})
        for table, rows in files.items():
            lines = [",".join(map(str, row)) for row in (tuple(TABLES[table]["columns"]), *rows)]
            (self.settings.root / "files" / f"{table}.csv").write_text("\n".join(lines) + "\n")
            ingest(self.lake, sources, table, day(number).replace(tzinfo=UTC), self.settings)

    def build(self, number: int, as_of: int | None = None) -> None:
        instants = [day(each).replace(tzinfo=UTC) for each in (number, as_of or number)]
        write_control(self.lake, self.problem, *instants)
        catch_up(workspace_of(self.settings, self.problem).domain)
        names = [node["name"] for node in manifest(self.settings)["nodes"].values() if node["resource_type"] == "model"]
        assert [result.message for result in build(self.settings, names) if result.failed] == []

    def features(self) -> list[tuple]:
        """Key, day and values."""
        return self.query('SELECT k, dayofyear(event_timestamp), "my v", w FROM features.f_ab ORDER BY ALL')

    def split(self) -> list[tuple]:
        return self.query('SELECT parcel_id, "De pot", late FROM split.parcels_split ORDER BY ALL')

    def query(self, sql: str) -> list[tuple]:
        with self.lake.reading() as connection:
            return connection.execute(sql).fetchall()


FIRST, SECOND = (1, 1, 10, day(5)), (2, 2, 20, day(6))
THIRD, CORRECTED = (3, 1, 30, day(35)), (3, 1, 99, day(35))
DEPOTS = [(1, 100), (2, 200)]


def test_a_correction_beside_a_table_that_lags(tmp_path: Path) -> None:
    """Depots are delivered until the 40th day, parcels until the 50th, when one is corrected."""
    world = World(tmp_path)
    world.deliver(38, a=[FIRST, SECOND, THIRD], b=DEPOTS)
    world.deliver(40, b=DEPOTS)
    world.deliver(50, a=[FIRST, SECOND, CORRECTED])
    world.build(50, as_of=40)  # as of later, not all is known yet
    known = [(1, 5, 10, 100), (1, 35, 30, 100), (2, 6, 20, 200)]
    assert world.features() == known
    world.deliver(60, a=[FIRST, SECOND, CORRECTED], b=DEPOTS)
    world.build(60)
    stepwise = world.features()
    assert stepwise == sorted([*known, (1, 50, 99, 100)])
    with world.lake.writing() as connection:
        connection.execute("DROP TABLE control.built_until")
    world.build(60)
    assert world.features() == stepwise


@pytest.mark.parametrize(
    ("broken", "call"), [("keep_former", 1), ("note_superseded", 1), ("note_superseded", 2), ("_build", 3)]
)
def test_a_kill_while_the_past_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, call: int
) -> None:
    world = World(tmp_path)
    moved = (2, 1, 20, day(6))
    world.deliver(40, a=[FIRST, SECOND], b=DEPOTS)
    world.build(40)
    world.deliver(50, a=[(1, 1, 11, day(5)), (2, 2, 5, day(6))], b=DEPOTS)
    world.deliver(60, a=[(1, 1, 99, day(5)), moved], b=DEPOTS)
    real: Callable[..., Any] = getattr(catching_up, broken)
    calls: list[int] = []

    def killed(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(catching_up, broken, killed)
        with pytest.raises(KeyboardInterrupt):
            world.build(60)
    world.build(60)
    assert world.features() == [
        (1, 5, 10, 100),
        (1, 50, 11, 100),
        (1, 60, 20, 100),
        (2, 6, 20, 200),
        (2, 50, 5, 200),
        (2, 60, None, None),
    ]
    splits = {}
    for as_of in (49, 55, 60):
        world.build(60, as_of)
        splits[as_of] = world.split()
    # Where a parcel was is what was known when the question was asked.
    assert splits == {49: [(1, 1, 0), (2, 2, 1)], 55: [(1, 1, 0), (2, 2, 0)], 60: [(1, 1, 1), (2, 2, 1)]}
    with world.lake.reading() as connection:
        sql = f'SELECT parcel_id, "De pot", late FROM {entities_as_known(connection, world.problem)} ORDER BY ALL'
        assert connection.execute(sql).fetchall() == splits[60]


def test_what_cannot_keep_a_history_is_named_when_rows_are_corrected(tmp_path: Path) -> None:
    as_table = MODELS["flights/features/f_ab"].replace("select a.k", "{{ config(materialized='table') }} select a.k")
    no_key: dict[str, Any] = {"f_ab": {}}
    for name, world, words in (
        ("table", World(tmp_path / "a", f_ab=as_table), "leave its `materialized` out"),
        ("key", World(tmp_path / "b", described=no_key), "entity_keys"),
    ):
        world.deliver(40, a=[FIRST], b=DEPOTS)
        world.build(40)
        world.deliver(50, a=[(1, 1, 11, day(5))], b=DEPOTS)
        with pytest.raises(HindcastError, match=words) as raised:
            world.build(50)
        assert "dbt_project/models/flights/features/f_ab.sql" in str(raised.value), name
