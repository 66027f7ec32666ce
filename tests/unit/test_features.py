"""Feast for one home: what is registered, what retrieval and materialising answer, and the flights' own repository."""

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
import yaml
from feast import FeatureView

from hindcast.errors import HindcastError
from hindcast.features.materialise import materialise
from hindcast.features.store import apply, asked_columns, feature_names, historical_features, open_store
from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.settings import Settings
from tests.feature_world import REPOSITORY, ROOT, at, make_world, register, river_problem, shared_world


@pytest.fixture
def world() -> Settings:
    return shared_world()


def test_apply_counts_what_is_declared(world: Settings) -> None:
    assert apply(world, "rivers") == {
        "entities": 2,
        "feature_views": 3,
        "features": 5,
        "on_demand_feature_views": 1,
        "feature_services": 1,
    }
    assert feature_names(world, "floods") == ["level", "state", "boats", "share", "dry", "phase"]
    assert asked_columns(world, "floods") == ["gauge", "river_id", "reach"]
    with pytest.raises(HindcastError, match="No feature service tides; there are: floods"):
        feature_names(world, "tides")


def test_apply_takes_out_what_is_no_longer_declared(tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    repository = REPOSITORY.replace(", moon]", "]")
    start, end = repository.index("moon = FeatureView("), repository.index("@on_demand_feature_view")
    (settings.feature_repo / "rivers.py").write_text(repository[:start] + repository[end:])
    assert apply(settings, "rivers")["feature_views"] == 2
    store = open_store(settings)
    assert sorted(view.name for view in store.list_feature_views()) == ["levels", "rivers"]
    assert sorted(source.name for source in store.list_data_sources()) == ["asked", "levels", "rivers"]
    assert "phase" not in feature_names(settings, "floods")


def test_apply_holds_declarations_against_the_tables(tmp_path: Path) -> None:
    settings = make_world(tmp_path)
    faults = {
        "CREATE OR REPLACE TABLE features.moon AS SELECT TIMESTAMP '2020-01-04' AS event_timestamp, 1 AS phase": (
            r"view moon: features\.moon\.phase is INTEGER, not DOUBLE"
        ),
        "DROP TABLE features.moon": r"view moon: the lake has no table features\.moon",
        "ALTER TABLE features.rivers DROP COLUMN n_boats": r"view rivers: features\.rivers has no column n_boats",
        "ALTER TABLE features.levels DROP COLUMN created": r"view levels: features\.levels has no column created",
    }
    for change, message in faults.items():  # each of a view that is looked at before the last one's
        with Lake(settings).writing() as connection:
            connection.execute(change)
        with pytest.raises(HindcastError, match=message):
            apply(settings, "rivers")
    assert not settings.feast_registry.exists()


def test_history_keeps_rows_order_and_columns_and_appends_the_service(world: Settings) -> None:
    rows = pl.DataFrame(
        {
            "note": ["third", "first", "second"],
            "gauge": ["B", "A", "A"],
            "river_id": pl.Series([2, 1, 1], dtype=pl.Int16),
            "reach": [4, 4, 4],
            "asked_at": [datetime(2020, 1, 5, 12), datetime(2020, 1, 5, 7), datetime(2020, 1, 5, 9)],
            "seen_at": [datetime(2020, 1, 1)] * 3,
        }
    )
    found = historical_features(world, river_problem(), rows)
    assert found.select(rows.columns).equals(rows)
    assert found.columns == [*rows.columns, "level", "state", "boats", "share", "dry", "phase"]
    assert found["level"].to_list() == [7, 10, 30]  # 31 came in at 09:05
    assert found["share"].to_list() == [0.56, 0.4, 1.0]
    assert found.schema["level"] == pl.Int32
    with pytest.raises(HindcastError, match="names of features: level"):
        historical_features(world, river_problem(), rows.with_columns(level=pl.lit(1)))
    with pytest.raises(HindcastError, match="no column asked_at"):
        historical_features(world, river_problem(), rows.drop("asked_at"))
    with pytest.raises(HindcastError, match="no column reach, which on-demand view flow needs"):
        historical_features(world, river_problem(), rows.drop("reach"))


def test_history_at_a_snapshot(tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    snapshot = Lake(settings).snapshot()
    with Lake(settings).writing() as connection:
        connection.execute("UPDATE features.moon SET phase = 0.5")
    rows = pl.DataFrame({"gauge": ["A"], "river_id": [1], "reach": [4], "asked_at": [at("05 07:00")]})
    found = [historical_features(settings, river_problem(), rows, each)["phase"][0] for each in (snapshot, None)]
    assert found == [0.25, 0.5]


def test_materialising_counts_keys_and_leaves_out_what_nobody_can_use(tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    assert materialise(settings, None, at("05 10:00")) == {"levels": 2, "rivers": 2, "moon": 1}
    assert materialise(settings, at("05 08:30"), at("05 10:00")) == {"levels": 1, "rivers": 0, "moon": 0}
    assert materialise(settings, None, at("05 13:00"))["levels"] == 1  # B's row is seven hours old, its TTL six
    with pytest.raises(HindcastError, match="has none"):
        materialise(settings, None, datetime(2020, 1, 5))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("project: hindcast", "project: [a", "feature_store.yaml is not YAML"),
        ("project: hindcast\n", "", "feature_store.yaml: project: Field required"),
        (
            "sqlite_online_store.NewestSqliteOnlineStore",
            "online_shop.SqliteOnlineStore",
            "feature_store.yaml: Could not import",
        ),
        ("4GB", "${MEMORY_OF_MINE}", "feature_store.yaml: the environment has no variable MEMORY_OF_MINE"),
    ],
)
def test_what_is_wrong_with_feasts_configuration_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    settings = make_world(tmp_path)
    path = settings.feature_repo / "feature_store.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(HindcastError, match=message):
        apply(settings, "rivers")


def test_an_unreadable_registry_is_said(tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    content = settings.feast_registry.read_bytes()
    settings.feast_registry.write_bytes(content[: len(content) // 2])
    for ask in (lambda: feature_names(settings, "floods"), lambda: apply(settings, "rivers")):
        with pytest.raises(HindcastError, match=r"registry .*/home/feast/registry.db can't be read .*: delete it"):
            ask()
    settings.feast_registry.unlink()
    assert apply(settings, "rivers")["feature_views"] == 3


# The flights' own feature repository.


@pytest.fixture(scope="module")
def flights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flights_repository", ROOT / "feature_repo" / "flights.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def views(module: ModuleType) -> list[FeatureView]:
    return [thing for thing in vars(module).values() if isinstance(thing, FeatureView)]


def test_every_view_and_feature_is_described_owned_tagged_and_ages(flights: ModuleType) -> None:
    assert len(views(flights)) == 10
    for view in views(flights):
        assert view.description and view.owner and view.tags and view.ttl, view.name
        assert all(feature.description for feature in view.features), view.name


def test_views_are_the_feature_tables(flights: ModuleType) -> None:
    path = ROOT / "dbt_project" / "models" / "flights" / "features" / "_features.yml"
    tables = {
        model["name"]: {column["name"]: column["data_type"] for column in model["columns"]}
        for model in yaml.safe_load(path.read_text())["models"]
    }
    types = {"STRING": "varchar", "DOUBLE": "double", "INT32": "integer"}
    declared = {
        view.name: {
            field.name: types[field.dtype.to_value_type().name] for field in [*view.entity_columns, *view.features]
        }
        | {"event_timestamp": "timestamp"}
        for view in views(flights)
    }
    assert declared == tables


def test_the_service_is_the_problems_and_holds_no_helper(flights: ModuleType) -> None:
    problem = load_problem(ROOT / "problems" / "flight_delay.yaml")
    assert flights.flight_delay.name == problem.feature_service
    names = [field.name for view in flights.flight_delay.feature_view_projections for field in view.features]
    helpers = {"scheduled_departure_minute", "leg_expected_arrival_minute"}
    assert len(names) == len(set(names))
    assert not helpers & set(names)


def test_the_inbound_leg(flights: ModuleType) -> None:
    # Departs at minute 1000. The aircraft lands away at 700 and needs 120 back and 60 to turn round: 120 to spare.
    found = flights.inbound_leg.feature_transformation.udf(
        {
            "scheduled_departure_minute": [1000.0, 1000.0, None, 5000.0, 1000.0],
            "leg_expected_arrival_minute": [700.0, None, 700.0, 700.0, 2000.0],
            "leg_block_minutes": [120.0, None, 120.0, 120.0, 120.0],
        }
    )
    assert found == {
        "inbound_slack_minutes": [120.0, None, None, 600.0, -600.0],
        "inbound_leg_missing": [0.0, 1.0, 0.0, 0.0, 0.0],
    }


def test_a_ttl_outlasts_the_step_of_its_table(flights: ModuleType) -> None:
    steps = {"origin_weather": 1, "origin_state": 0.25, "carrier_outcomes": 1, "origin_carrier_outcomes": 1}
    steps |= {"destination_outcomes": 1, "route_outcomes": 3}
    ttl = {view.name: view.ttl for view in views(flights)}
    assert all(ttl[name] > timedelta(hours=hours) for name, hours in steps.items())
    assert ttl["flight_schedule"] > timedelta(days=7)  # published a week ahead
    assert datetime(2013, 1, 1, tzinfo=UTC) + ttl["aircraft_profile"] > datetime(2023, 1, 1, tzinfo=UTC)
