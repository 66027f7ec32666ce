"""The monitoring assets on a tiny lake, and that the sensor reads what the report asset says."""

import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from dagster import (
    AssetCheckSeverity,
    DagsterInstance,
    SkipReason,
    asset,
    build_sensor_context,
    materialize,
)

from assets.monitor import build_monitoring, report_key
from assets.resources import HindcastResource
from assets.retrain import build_sensor
from hindcast.clock import SimulatedClock
from hindcast.features.materialise import materialise
from hindcast.files import write_atomically
from hindcast.lake import Lake
from hindcast.package.model import REFERENCE, Feature, ServedModel
from hindcast.package.reference import reference_file
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tasks import find_task
from tests.feature_world import ROOT, at
from tests.served_rivers import Rivers
from tests.unit.test_promotion import RIVERS_SOURCES

FLIGHTS = ROOT / "problems" / "flight_delay.yaml"


def model(folder: Path) -> Any:
    """Stands for a package: it says a quarter of whatever is asked, and carries one row that it was held against."""
    features = (Feature("height", "numeric"),)
    frame = pl.DataFrame(
        {
            "flight_id": ["z"],
            "prediction_time": [datetime(2013, 10, 5)],
            "is_late": [0],
            "split": ["test"],
            "height": [2.0],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REFERENCE).write_bytes(reference_file(load_problem(FLIGHTS), frame, features))
    return SimpleNamespace(
        version="m1",
        folder=folder,
        metadata={"snapshot": None},
        task=find_task("binary"),
        signature=SimpleNamespace(features=features, calibration={"threshold": 0.5}),
        matrix=lambda values: np.zeros((len(values["height"]), 1), dtype=np.float32),
        predict=lambda matrix: np.full((len(matrix), 1), 0.25),
    )


def test_a_young_service_is_reported_and_asks_for_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_HOME", str(settings.home))
    monkeypatch.setattr(ServedModel, "load", model)
    write_atomically(settings.champion_file, json.dumps({"version": "m1"}))
    with Lake(settings).writing() as connection:
        for schema in ("flight_delay", "labeled", "control"):
            connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            "CREATE TABLE control.instants AS SELECT 'labels.flight_delay' AS name, TIMESTAMP '2013-11-01' AS \"at\""
        )
        connection.execute(
            "CREATE TABLE labeled.flight_outcomes AS SELECT 'a' AS flight_id, 1 AS is_late, "
            "TIMESTAMP '2013-10-31 20:00:00' AS label_known_at"
        )
        connection.execute(
            "CREATE TABLE flight_delay.requests AS SELECT 'r1' AS id, TIMESTAMP '2013-10-31 06:00:00' AS "
            "prediction_time, 'a' AS flight_id, 'm1' AS model_version, '{\"height\": 1.5}'::JSON AS features, "
            "[0.25::DOUBLE] AS prediction"
        )
    hindcast = HindcastResource()
    labeled_requests, _, monitoring_report = build_monitoring(hindcast.problem("flight_delay"))
    retrain_on_report = build_sensor(hindcast.problem("flight_delay"))
    with DagsterInstance.ephemeral() as instance:
        result = materialize([labeled_requests, monitoring_report], instance=instance, resources={"hindcast": hindcast})
        assert result.success
        table = result.asset_materializations_for_node("flight_delay__labeled_requests")[0].metadata
        assert (table["dagster/row_count"].value, table["labeled"].value) == (1, 1)
        said = result.asset_materializations_for_node("flight_delay__monitoring_report")[0].metadata
        assert (said["status"].value, said["causes"].value, said["requests"].value) == ("not enough data", [], 1)
        assert "report" not in said  # there is nothing to draw
        assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
        written = json.loads((settings.reports / "monitoring.json").read_text())
        assert written["summary"] == said["summary"].value
        assert written["cause_id"] == said["cause_id"].value

        with build_sensor_context(instance=instance, resources={"hindcast": hindcast}) as context:
            outcome = retrain_on_report(context)
        assert isinstance(outcome, SkipReason)
        assert outcome.skip_message == f"The monitoring report raises no alarm: {written['summary']}"

        versions = instance.get_latest_materialization_event(report_key("flight_delay"))
        again = materialize([labeled_requests, monitoring_report], instance=instance, resources={"hindcast": hindcast})
        assert again.success
        after = instance.get_latest_materialization_event(report_key("flight_delay"))
        assert versions is not None
        assert after is not None
        assert (
            versions.asset_materialization.tags["dagster/data_version"]
            == after.asset_materialization.tags["dagster/data_version"]
        )


def test_skew_stops_what_comes_after_and_what_proves_nothing_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rivers = Rivers(tmp_path)
    settings = rivers.settings
    monkeypatch.setenv("HINDCAST_HOME", str(settings.home))
    monkeypatch.setenv("HINDCAST_ROOT", str(settings.root))
    settings.sources_folder.mkdir(parents=True)
    settings.sources_file("rivers").write_text(RIVERS_SOURCES)
    settings.problem_file.write_text(
        FLIGHTS.read_text().replace("flight_delay", "floods").replace("domain: flights", "domain: rivers")
    )
    SimulatedClock(settings.clock_file("rivers"), at("05 00:00")).move_to(at("06 00:00"))
    materialise(settings, None, at("05 06:30"))
    rivers.serve(("a", "A", 1, at("05 09:30")))

    hindcast = HindcastResource()
    _, serving_parity, _ = build_monitoring(hindcast.problem("floods"))

    @asset(deps=[serving_parity])
    def after() -> None: ...

    def run() -> tuple[bool, Any, bool]:
        with DagsterInstance.ephemeral() as instance:
            result = materialize(
                [serving_parity, after],
                instance=instance,
                resources={"hindcast": hindcast},
                raise_on_error=False,
            )
            (check,) = result.get_asset_check_evaluations()
            return check.passed, check.severity, bool(result.asset_materializations_for_node("after"))

    assert run() == (True, AssetCheckSeverity.ERROR, True)
    page = (settings.reports / "parity.html").read_text()
    assert page.count("<img ") == 2
    assert "http" not in page  # it needs no other file
    rivers.write("UPDATE floods.requests SET features_as_of = NULL")
    assert run() == (False, AssetCheckSeverity.WARN, True)
    rivers.write("UPDATE floods.requests SET prediction = [0.25]")
    assert run() == (False, AssetCheckSeverity.ERROR, False)
    assert json.loads((settings.reports / "parity.json").read_text())["status"] == "skew"
