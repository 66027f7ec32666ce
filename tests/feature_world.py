"""A made-up world for the tests of features: rivers with gauges, small enough to work every answer out by hand."""

import atexit
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from hindcast.features.store import apply
from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings

ROOT = Path(__file__).parent.parent

REPOSITORY = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int32, Int64, String

from hindcast.features.lake_source import LakeSource

gauge = Entity(name="gauge", value_type=ValueType.STRING)
river = Entity(name="river", join_keys=["river_id"], value_type=ValueType.INT32)

levels = FeatureView(
    name="levels",
    entities=[gauge],
    ttl=timedelta(hours=6),
    schema=[Field(name="gauge", dtype=String), Field(name="level", dtype=Int32), Field(name="state", dtype=String)],
    source=LakeSource(name="levels", table="features.levels", created_timestamp_column="created"),
)
rivers = FeatureView(
    name="rivers",
    entities=[river],
    ttl=timedelta(0),
    schema=[Field(name="river_id", dtype=Int32), Field(name="length", dtype=Float64), Field(name="boats", dtype=Int64)],
    source=LakeSource(name="rivers", table="features.rivers", field_mapping={"n_boats": "boats"}),
)
moon = FeatureView(
    name="moon",
    entities=[],
    ttl=timedelta(days=2),
    schema=[Field(name="phase", dtype=Float64)],
    source=LakeSource(name="moon", table="features.moon"),
)


@on_demand_feature_view(
    sources=[
        levels[["level"]],
        rivers[["length"]],
        RequestSource(name="asked", schema=[Field(name="reach", dtype=Int64)]),
    ],
    schema=[Field(name="share", dtype=Float64), Field(name="dry", dtype=Int64)],
    mode="python",
)
def flow(inputs):
    triples = zip(inputs["level"], inputs["length"], inputs["reach"], strict=True)
    return {
        "share": [None if None in triple else triple[0] * triple[2] / triple[1] for triple in triples],
        "dry": [int(level is None) for level in inputs["level"]],
    }


floods = FeatureService(name="floods", features=[levels, rivers[["boats"]], flow, moon])
"""


def at(text: str) -> datetime:
    """'05 06:30' is the 5th of January 2020, 06:30 UTC."""
    day, clock = text.split()
    return datetime.fromisoformat(f"2020-01-{day}T{clock}").replace(tzinfo=UTC)


def make_world(folder: Path) -> Settings:
    """A checkout with its own feature repository, and a lake with tables for it."""
    settings = Settings(folder / "checkout", folder / "home", "floods")
    settings.feature_repo.mkdir(parents=True)
    (settings.feature_repo / "rivers.py").write_text(REPOSITORY)
    shutil.copyfile(ROOT / "feature_repo" / "feature_store.yaml", settings.feature_repo / "feature_store.yaml")
    settings.lake_catalogue.parent.mkdir(parents=True)
    with Lake(settings).writing() as connection:
        connection.execute("CREATE SCHEMA features; CREATE SCHEMA split")
        connection.execute(
            "CREATE TABLE features.levels (gauge VARCHAR, event_timestamp TIMESTAMP, created TIMESTAMP, "
            "level INTEGER, state VARCHAR)"
        )
        connection.execute(
            "INSERT INTO features.levels VALUES "
            "('A', '2020-01-05 06:00', '2020-01-05 06:00', 10, 'low'), "
            "('A', '2020-01-05 09:00', '2020-01-05 09:00', 30, 'high'), "
            "('A', '2020-01-05 09:00', '2020-01-05 09:05', 31, 'high'), "  # written again: the later one counts
            "('B', '2020-01-05 06:00', '2020-01-05 06:00', 7, NULL), "
            "(NULL, '2020-01-05 06:00', '2020-01-05 06:00', 99, 'nobody')"
        )
        connection.execute(
            "CREATE TABLE features.rivers AS SELECT * FROM (VALUES "
            "(1, TIMESTAMP '2019-06-01', 100.0::DOUBLE, 5::BIGINT), "
            "(1, TIMESTAMP '2020-01-05 08:00', 120.0, NULL), (2, TIMESTAMP '2019-06-01', 50.0, 2)) "
            "t(river_id, event_timestamp, length, n_boats)"
        )
        connection.execute(
            "CREATE TABLE features.moon AS SELECT TIMESTAMP '2020-01-04' AS event_timestamp, 0.25::DOUBLE AS phase"
        )
        connection.execute(
            "CREATE TABLE split.days AS SELECT * FROM (VALUES "
            "('d3', 'A', 1, 4::BIGINT, TIMESTAMP '2020-01-05 09:30', 1, TIMESTAMP '2020-01-05 12:00', 'test'), "
            "('d1', 'A', 1, 4, TIMESTAMP '2020-01-05 07:00', 0, TIMESTAMP '2020-01-05 11:00', 'train'), "
            "('d2', 'B', 2, 4, TIMESTAMP '2020-01-05 07:00', 1, TIMESTAMP '2020-01-05 11:00', 'train'), "
            "('d4', NULL, 2, 4, TIMESTAMP '2020-01-05 12:00', 0, TIMESTAMP '2020-01-05 13:00', 'validation')) "
            't(day_id, gauge, river_id, reach, asked_at, flooded, flooded_known_at, "split")'
        )
    return settings


@cache
def shared_world() -> Settings:
    """One world for all tests that change neither its tables nor its repository."""
    folder = Path(tempfile.mkdtemp(prefix="hindcast-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return register(make_world(folder))


def register(settings: Settings) -> Settings:
    apply(settings, "rivers")
    return settings


def river_problem() -> Problem:
    """The flights' problem file, turned to rivers."""
    problem = load_problem(ROOT / "problems" / "flight_delay.yaml")
    return problem.model_copy(
        update={
            "name": "floods",
            "domain": "rivers",
            "feature_service": "floods",
            "split_table": "split.days",
            "entity": problem.entity.model_copy(update={"name": "day", "key": "day_id"}),
            "prediction_time": problem.prediction_time.model_copy(update={"column": "asked_at"}),
            "label": problem.label.model_copy(update={"column": "flooded", "known_at": "flooded_known_at"}),
            "slices": problem.slices.model_copy(update={"columns": ("gauge",)}),
            "baseline": problem.baseline.model_copy(update={"columns": ("river_id",)}),
        }
    )
