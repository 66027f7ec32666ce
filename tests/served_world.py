"""A made-up problem for tests of the service: three parcels, two depots, and a model made without training."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from hindcast.features import store as features
from hindcast.features.materialise import materialise
from hindcast.lake import Lake
from hindcast.package.model import FEATURES as REGISTRY
from hindcast.problem import load_problem
from hindcast.promotion import champion
from hindcast.serving.bento import build_bento
from hindcast.settings import Settings
from tests.tiny_model import write_package

ROOT = Path(__file__).parent.parent
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
FEATURES = """
from datetime import timedelta
from typing import Any
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, String
from hindcast.features.lake_source import LakeSource

parcel = Entity(name="parcel", value_type=ValueType.STRING)
depot = Entity(name="depot", value_type=ValueType.INT32)
parcels = FeatureView(
    name="parcels", entities=[parcel], ttl=timedelta(days=30),
    source=LakeSource(name="parcels", table="features.parcels"),
    schema=[Field(name="parcel", dtype=String), Field(name="weight", dtype=Float64), Field(name="kind", dtype=String)],
)
depots = FeatureView(
    name="depots", entities=[depot], ttl=timedelta(hours=2), source=LakeSource(name="depots", table="features.depots"),
    schema=[Field(name="queue", dtype=Float64)],
)


@on_demand_feature_view(sources=[depots], schema=[Field(name="is_crowded", dtype=Float64)], mode="python")
def crowds(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"is_crowded": [None if queue is None else float(queue > 4) for queue in inputs["queue"]]}


service = FeatureService(name="parcels", features=[parcels, depots, crowds])
"""


_BARS = {"bars": {}, "tolerance": 0.0, "margin": 0.0}
_METRICS = {
    "multiclass": {
        "metrics": {"primary": "log_loss"} | _BARS,
        "candidates": [{"name": "linear", "model": "logistic_regression"}],
    },
    "regression": {"metrics": {"primary": "mae"} | _BARS, "candidates": [{"name": "linear", "model": "ridge"}]},
}


def served_world(root: Path, task: str = "binary", classes: Sequence[str] = ()) -> Settings:
    """A checkout with another problem, its features known and its champion in a bento.

    This process gets the home's environment, as one that `hindcast` starts.

    Args:
        root: Of the checkout.
        task: Of the problem.
        classes: Of a multiclass label.
    """
    for name in ("hindcast", "bentos", "pyproject.toml", "README.md"):
        (root / name).symlink_to(ROOT / name)
    for folder in ("problems", "feature_repo"):
        (root / folder).mkdir()
    (root / "feature_repo" / "parcels.py").write_text(FEATURES)
    (root / "feature_repo" / "feature_store.yaml").symlink_to(ROOT / "feature_repo" / "feature_store.yaml")
    problem = yaml.safe_load((ROOT / "problems" / "flight_delay.yaml").read_text())
    problem |= {
        "name": "parcels",
        "domain": "parcels",
        "labeled_table": "labeled.parcels",
        "entity": {"name": "parcel", "key": "parcel"},
    }
    problem |= {"serving": {"max_batch": 200}}
    if task != "binary":
        problem |= {"task": task, "label": problem["label"] | {"classes": [*classes]}} | _METRICS[task]
    (root / "problems" / "parcels.yaml").write_text(yaml.safe_dump(problem))
    settings = Settings(root, root / "home", "parcels")
    settings.sources_folder.mkdir()
    flights = yaml.safe_load((ROOT / "problems" / "sources" / "flights.yaml").read_text())
    table = {"file": "parcels.csv", "format": "csv", "columns": {"parcel": "VARCHAR"}}
    sources = {"folder": ".", "clock": flights["clock"], "tables": {"parcels": table}}
    settings.sources_file("parcels").write_text(yaml.safe_dump(sources))
    os.environ.update(settings.environment())
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA labeled; CREATE SCHEMA features")
        connection.execute("CREATE TABLE labeled.parcels (parcel VARCHAR, depot INTEGER, prediction_time TIMESTAMP)")
        connection.execute(
            "INSERT INTO labeled.parcels VALUES "
            "('P1', 1, '2013-10-31'), ('P2', 2, '2013-11-02'), ('P1', 1, '2024-05-01')"
        )
        connection.execute(
            "CREATE TABLE features.parcels AS FROM (VALUES ('P1', TIMESTAMP '2024-05-01 10:00', 2.0, 'box'), "
            "('P2', '2024-05-01 10:30', -1.0, 'crate')) AS t(parcel, event_timestamp, weight, kind)"
        )
        connection.execute("ALTER TABLE features.parcels ALTER weight TYPE DOUBLE")
        connection.execute(
            "CREATE TABLE features.depots AS FROM (VALUES (1, TIMESTAMP '2024-05-01 11:00', 5.0), "
            "(2, '2024-05-01 09:00', 7.0)) AS t(depot, event_timestamp, queue)"
        )
        connection.execute("ALTER TABLE features.depots ALTER queue TYPE DOUBLE")
    features.apply(settings, "parcels")
    materialise(settings, None, NOON)
    promote(settings, "v1", 0.0)
    build_bento(settings, load_problem(settings.problem_file), lake)
    return settings


def package(settings: Settings, version: str, bias: float) -> Path:
    """A package of the problem's task, its features as they are registered now."""
    problem = load_problem(settings.problem_file)
    registry = {REGISTRY: settings.feast_registry.read_bytes()}
    task, classes = problem.task, problem.label.classes
    return write_package(settings.models, version, bias, more=registry, task=task, classes=classes)


def promote(settings: Settings, version: str, bias: float) -> Path:
    folder = package(settings, version, bias)
    champion.promote(settings, version, NOON, settings.verdicts / "verdict.json")
    return folder
