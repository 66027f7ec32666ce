"""The rivers' world, served: requests are answered by the real reader and logged, for the tests of what comes after."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hindcast.clock import SimulatedClock
from hindcast.features.definition import definition
from hindcast.features.online import FeatureReader
from hindcast.features.store import apply, historical_features
from hindcast.lake import Lake
from hindcast.monitoring.parity import Parity, measure
from hindcast.package.model import BASELINE, FEATURES, Feature, ServedModel
from hindcast.package.reference import History
from hindcast.problem import Problem
from hindcast.serving.predict import LoadedModel, Reader, answer
from hindcast.serving.request_log import RequestLog, compact
from hindcast.settings import Settings
from hindcast.training.training_data import TrainingData
from tests.feature_world import REPOSITORY, at, make_world, register, river_problem
from tests.tiny_model import SIGNATURE_OF_PARCELS, write_package

SIGNATURE = replace(
    SIGNATURE_OF_PARCELS,
    problem="floods",
    entity="day",
    entity_key="day_id",
    feature_service="floods",
    join_keys=("gauge", "river_id"),
    request_fields=("reach",),
    features=(
        Feature("level", "numeric"),
        Feature("state", "categorical", ("high", "low")),
        *(Feature(name, "numeric") for name in ("boats", "share", "dry", "phase")),
    ),
)


def sigmoid(score: float) -> float:
    """The tiny model is this of bias and level, in float32."""
    return float(1 / (1 + np.exp(-score)))


class Rivers:
    """A home that serves the rivers' world by the tiny model `m1`, whose score is the level less 30."""

    def __init__(self, folder: Path) -> None:
        self.set_up(register(make_world(folder)))

    def set_up(self, settings: Settings) -> None:
        """Takes a world that is registered."""
        self.settings = settings
        self.lake = Lake(self.settings)
        self.log = RequestLog(self.settings.request_log)
        self.package("m1")

    def package(self, version: str, more: Mapping[str, bytes] | None = None, **task: Any) -> None:
        """Packages the model once more; as another task's where `write_package` is told of one."""
        write_package(
            self.settings.models,
            version,
            bias=-30.0,
            signature=SIGNATURE,
            more={FEATURES: self.settings.feast_registry.read_bytes(), **(more or {})},
            feature_definition=definition(self.settings, "floods"),
            **task,
        )

    def serve(
        self, *asked: tuple[str, str | None, int | None, datetime], reader: Reader | None = None, version: str = "m1"
    ) -> None:
        """Asks by id, gauge, river and prediction time; what was logged goes into the lake."""
        model = ServedModel.load(self.settings.models / version)
        reader = reader or FeatureReader(self.settings, "floods", model.folder / FEATURES)
        champion = LoadedModel(model, reader, None)
        clock = SimulatedClock(self.settings.clock_file("rivers"), at("05 00:00"))
        requests = [
            {"day_id": f"of {name}", "gauge": gauge, "river_id": river, "reach": 4}
            | {"prediction_time": moment, "request_id": name}
            for name, gauge, river, moment in asked
        ]
        answer(champion, requests, self.log, clock)
        compact(self.settings.request_log, self.lake, "floods.requests", "day_id")

    def write(self, sql: str) -> None:
        with self.lake.writing() as connection:
            connection.execute(sql)

    def parity(self, now: str = "06 00:00") -> Parity:
        return measure(self.settings, river_problem(), self.lake, at(now))


LESS = REPOSITORY.replace(', Field(name="state", dtype=String)]', "]").replace("flow, moon]", "flow]")
SMALLER = replace(SIGNATURE, features=tuple(each for each in SIGNATURE.features if each.name not in ("state", "phase")))


def package(rivers: Rivers, version: str, signature: Any = SIGNATURE, bias: float = -30.0) -> Path:
    """Packages the tiny model, its features as they are registered now."""
    history = History(("river_id",), np.array([0.5]), {("1",): np.array([0.75])}).to_json().encode()
    return write_package(
        rivers.settings.models,
        version,
        bias=bias,
        signature=signature,
        more={FEATURES: rivers.settings.feast_registry.read_bytes(), BASELINE: history},
        feature_definition=definition(rivers.settings, "floods"),
    )


def redeclare(rivers: Rivers, text: str = LESS) -> None:
    """Registers another content of the feature repository."""
    (rivers.settings.feature_repo / "rivers.py").write_text(text)
    apply(rivers.settings, "rivers")


def batch_problem() -> Problem:
    """The river problem, whose split table is its labeled table, too."""
    return river_problem().model_copy(update={"labeled_table": "split.days"})


def trained(rivers: Rivers) -> TrainingData:
    """A training set as it is made by the repository of now, in which every row is of the test window."""
    with rivers.lake.reading() as connection:
        days = connection.execute(
            "SELECT * REPLACE ('test' AS split) FROM split.days WHERE gauge IS NOT NULL ORDER BY day_id"
        ).pl()
    frame = historical_features(rivers.settings, batch_problem(), days)
    window = (at("05 00:00"), at("11 00:00"))
    return TrainingData(frame, {"test": window}, window[1], rivers.lake.snapshot())
