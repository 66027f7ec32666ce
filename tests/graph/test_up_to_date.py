"""Which assets aren't what they would become: on a small graph, changed in one way at a time."""

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetMaterialization,
    AssetSpec,
    DagsterInstance,
    DataVersion,
    Definitions,
    MaterializeResult,
    MonthlyPartitionsDefinition,
    asset,
    materialize,
)

from assets.up_to_date import Graph
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.workspace import open_workspace

MONTHS = ("2024-01-01", "2024-02-01")
RANGE = {"dagster/asset_partition_range_start": MONTHS[0], "dagster/asset_partition_range_end": MONTHS[1]}


class World:
    """A table of months, a table and a number made from it, and what they are made of."""

    def __init__(self, settings: Settings, instance: DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.workspace = open_workspace(settings)
        self.code, self.content, self.fails, self.severity = "1", "c1", "", AssetCheckSeverity.ERROR
        with Lake(settings).writing() as connection:
            connection.execute("CREATE SCHEMA raw; CREATE SCHEMA made")
            connection.execute("CREATE TABLE raw.months AS SELECT 1 AS n; CREATE TABLE made.rows AS SELECT 1 AS n")
        self.deliver("f1")

    def deliver(self, version: str) -> None:
        tags = {"dagster/data_version": version}
        self.instance.report_runless_asset_event(AssetMaterialization("files", tags=tags))

    def assets(self) -> list[Any]:
        @asset(
            key=["raw", "months"],
            deps=["files"],
            partitions_def=MonthlyPartitionsDefinition("2024-01-01", "2024-03-01"),
            code_version="1",
        )
        def months() -> MaterializeResult:  # type: ignore[type-arg]
            return MaterializeResult(data_version=DataVersion(self.content))

        @asset(
            key=["made", "rows"],
            deps=[months],
            code_version=self.code,
            check_specs=[AssetCheckSpec("whole", asset=AssetKey(["made", "rows"]), blocking=True)],
        )
        def rows() -> MaterializeResult:  # type: ignore[type-arg]
            if self.fails == "step":
                raise ValueError("half way")
            check = AssetCheckResult(check_name="whole", passed=self.fails != "check", severity=self.severity)
            version = DataVersion(f"rows of {self.content}")
            return MaterializeResult(metadata={"dagster/row_count": 1}, data_version=version, check_results=[check])

        @asset(deps=[rows], code_version="1")
        def number() -> None: ...

        return [AssetSpec("files"), months, rows, number]

    def make(self, *names: str, months: dict[str, str] | None = None) -> None:
        for name in names:
            assets = self.assets()
            (chosen,) = [each for each in assets[1:] if each.key.path[-1] == name]
            tags = (months or RANGE) if name == "months" else {}
            materialize(assets, selection=[chosen], instance=self.instance, tags=tags, raise_on_error=False)

    def stale(self) -> dict[str, str]:
        graph = Definitions(self.assets()).resolve_asset_graph()
        found = Graph(self.workspace, self.instance, graph, MONTHS).stale(graph.executable_asset_keys)
        return {key.path[-1]: reason for key, reason in found.items()}


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with DagsterInstance.ephemeral() as instance:
        made = World(settings, instance)
        made.make("months", "rows", "number")
        assert made.stale() == {}
        yield made


def test_nothing_was_made_yet(settings: Settings) -> None:
    with DagsterInstance.ephemeral() as instance:
        assert World(settings, instance).stale() == dict.fromkeys(("months", "rows", "number"), "it was never made")


def test_other_files_with_the_same_content(world: World) -> None:
    world.deliver("f2")
    assert world.stale() == {"months": "files is new"}
    world.make("months")
    assert world.stale() == {}


def test_other_content_goes_on_step_by_step(world: World) -> None:
    world.deliver("f2")
    world.content = "c2"
    world.make("months")
    assert world.stale() == {"rows": "raw/months is new"}
    world.make("rows")
    assert world.stale() == {"number": "made/rows is new"}
    world.make("number")
    assert world.stale() == {}


def test_a_month_that_was_left_out(world: World) -> None:
    world.deliver("f2")
    world.make("months", months=dict.fromkeys(RANGE, MONTHS[1]))
    assert world.stale() == {"months": "files is new"}


def test_other_code(world: World) -> None:
    world.code = "2"
    assert world.stale() == {"rows": "its code has changed"}
    world.make("rows")
    assert world.stale() == {}


def test_a_run_that_stopped_half_way_also_behind_one_that_never_began(world: World) -> None:
    world.fails = "step"
    world.make("rows")
    failed = world.instance.get_run_records()[0].dagster_run.run_id
    assert world.stale() == {"rows": f"run {failed} stopped while it was made"}
    job = Definitions(world.assets()).resolve_implicit_global_asset_job_def()
    world.instance.create_run_for_job(job, asset_selection={AssetKey(["made", "rows"])})  # planned, and killed at once
    assert world.stale() == {"rows": f"run {failed} stopped while it was made"}
    world.fails = ""
    world.make("rows")
    assert world.stale() == {}


def test_a_blocking_check_that_failed(world: World) -> None:
    world.fails = "check"
    world.make("rows")
    assert world.stale() == {"rows": "check whole failed"}
    world.severity = AssetCheckSeverity.WARN
    world.make("rows")
    assert world.stale() == {}


def test_a_table_that_is_gone(world: World) -> None:
    with Lake(world.settings).writing() as connection:
        connection.execute("DROP TABLE made.rows")
    assert world.stale() == {"rows": "its table is gone"}


def test_a_lake_that_is_gone(world: World) -> None:
    world.settings.lake_catalogue.unlink()
    assert world.stale() == dict.fromkeys(("months", "rows", "number"), "there is no lake")
