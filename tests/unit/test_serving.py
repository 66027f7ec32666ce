"""Answering and swapping models, with a made-up model and made-up features."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from pydantic import ValidationError

from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.package.model import SAMPLE, SIGNATURE, ServedModel, Signature
from hindcast.problem import load_problem
from hindcast.promotion import champion
from hindcast.serving.answer_form import answer_form, explained_form
from hindcast.serving.demands import Demands, Refused
from hindcast.serving.openapi import openapi
from hindcast.serving.predict import (
    Champions,
    LoadedModel,
    Unavailable,
    answer,
    choose_example,
    load_model,
)
from hindcast.serving.request_form import Fault, batch_form, form_errors, request_form
from hindcast.serving.request_log import RequestLog
from hindcast.serving.server import serve_forever
from hindcast.settings import Settings
from tests.patience import wait_for
from tests.tiny_model import SIGNATURE_OF_PARCELS, prediction, probability, write_package

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
PARCELS = {"P1": (2.0, "box"), "P2": (-1.0, "crate"), "P3": (None, None)}


@dataclass
class Found:
    values: dict[str, list[Any]]
    known_at: dict[str, list[datetime | None]]
    stale: list[list[str]]
    as_of: datetime | None
    snapshot: int | None
    unknown: dict[str, list[bool]] = field(default_factory=dict)


@dataclass
class Shelf:
    """A reader of three made-up parcels, known since an hour before they are asked for."""

    as_of: datetime | None = NOON - timedelta(minutes=30)
    snapshot: int | None = 12

    def read(self, rows: list[dict[str, Any]], at: list[datetime]) -> Found:
        found = [PARCELS.get(row["parcel"], (None, None)) for row in rows]
        return Found(
            {"weight": [weight for weight, _ in found], "kind": [kind for _, kind in found]},
            {"parcels": [at[n] - timedelta(hours=1) if found[n][1] else None for n in range(len(rows))]},
            [[] if kind else ["parcels"] for _, kind in found],
            self.as_of,
            self.snapshot,
            {"parcel": [kind is None for _, kind in found], "depot": [row["depot"] != "D" for row in rows]},
        )


class Broken:
    def read(self, rows: list[dict[str, Any]], at: list[datetime]) -> Found:
        raise sqlite3.OperationalError("no such table: parcels")


def request(parcel: str, **changes: Any) -> dict[str, Any]:
    return {"depot": "D", "parcel": parcel, "prediction_time": NOON, "request_id": None} | changes


@pytest.fixture
def clock(tmp_path: Path) -> SimulatedClock:
    return SimulatedClock(tmp_path / "clock.json", NOON + timedelta(days=1))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RequestLog]:
    log = RequestLog(tmp_path / "log")
    yield log
    log.close()


@pytest.fixture
def served(tmp_path: Path) -> LoadedModel:
    return LoadedModel(ServedModel.load(write_package(tmp_path / "models", "v1")), Shelf(), None)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in (tmp_path / "log").glob("*") for line in file.read_text().splitlines()]


# Answering


def test_an_answer_says_what_it_rests_on(served: LoadedModel, log: RequestLog, clock: SimulatedClock) -> None:
    (said,) = answer(served, [request("P1")], log, clock)
    assert said.pop("probability") == pytest.approx(probability(0.0, 2.0), abs=1e-6)
    assert len(said.pop("id")) == 32
    assert said == {
        "prediction_time": "2024-05-01T12:00:00+00:00",
        "decision": 1,
        "threshold": 0.5,
        "model_version": "v1",
        "snapshot": 7,
        "feature_times": {"parcels": "2024-05-01T11:00:00+00:00"},
        "missing_or_stale": [],
        "unknown_categories": [],
        "unknown_keys": [],
        "warning": None,
    }


def test_an_answer_from_nothing_says_so_loudly(served: LoadedModel, log: RequestLog, clock: SimulatedClock) -> None:
    for explained in (False, True):
        nobody, known = answer(served, [request("nobody"), request("P1")], log, clock, explained)
        assert nobody["warning"] == (
            "1 of 1 feature views have no usable row for this entity at 2024-05-01T12:00:00+00:00 (parcels); the "
            "online store is filled until 2024-05-01T11:30:00+00:00. The answer rests on little or nothing."
        )
        assert known["warning"] is None


def test_what_is_in_no_table_is_flagged_or_refused(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock, tmp_path: Path
) -> None:
    asked = [request("P1"), request("nobody"), request("nobody", depot="X")]
    flagged = answer(served, asked, log, clock)
    assert [one["unknown_keys"] for one in flagged] == [[], ["parcel"], ["parcel", "depot"]]
    known, half, refused = answer(served, asked, log, clock, demands=Demands(refuse=True))
    assert (known["unknown_keys"], half["unknown_keys"]) == ([], ["parcel"])
    assert refused == Refused("Nothing is known of parcel nobody; depot X.")
    strict = Demands(refuse=True, identified_by=("parcel",))
    assert [isinstance(one, Refused) for one in answer(served, asked, log, clock, demands=strict)] == [
        False,
        True,
        True,
    ]
    lenient = Demands(refuse=True, identified_by=("depot",))
    assert answer(served, asked, log, clock, demands=lenient)[1:] == [
        {**half, "id": ANY},
        Refused("Nothing is known of depot X."),
    ]


@pytest.mark.parametrize(("missing", "views", "warned"), [(0, 3, False), (1, 3, False), (2, 3, True), (1, 2, False)])
def test_most_views_are_more_than_half(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock, missing: int, views: int, warned: bool
) -> None:
    class Partly(Shelf):
        def read(self, rows: list[dict[str, Any]], at: list[datetime]) -> Found:
            names = [f"view{number}" for number in range(views)]
            known = {name: [None if name in names[:missing] else NOON] for name in names}
            return replace(super().read(rows, at), known_at=known, stale=[names[:missing]])

    (said,) = answer(replace(served, reader=Partly()), [request("P1")], log, clock)
    assert (said["warning"] is not None) == warned


def test_the_example_is_what_most_is_known_of_until_when_the_store_is_filled() -> None:
    nobody, known, other = ({"parcel": name, "depot": None} for name in ("nobody", "P2", "P1"))
    filled = {"prediction_time": "2024-05-01T11:30:00+00:00"}
    assert choose_example([nobody, known, other], Shelf()) == {"parcel": "P2"} | filled
    assert choose_example([nobody], Shelf()) == choose_example([], Shelf()) == choose_example([known], Broken()) == {}
    untold = Shelf(as_of=None)  # the store doesn't say until when it is filled
    assert choose_example([known], untold) == {}
    assert choose_example([known], untold, NOON) == {"parcel": "P2", "prediction_time": NOON.isoformat()}


def test_an_explained_answer_adds_up_to_what_is_said(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock
) -> None:
    plain, explained = (answer(served, [request("P1")], log, clock, explained=each)[0] for each in (False, True))
    assert explained["probability"] == plain["probability"]
    assert (explained["base"], explained["raw_score"]) == pytest.approx((0.0, 2.0), abs=1e-6)
    assert explained["contributions"] == [
        {"feature": "weight", "value": 2.0, "contribution": pytest.approx(2.0)},
        {"feature": "kind", "value": "box", "contribution": 0.0},
    ]
    assert set(explained) - set(plain) == {"base", "raw_score", "tolerance", "contributions"}


def test_unknown_categories_and_missing_features_are_answered_and_said(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock
) -> None:
    crate, nothing = answer(served, [request("P2"), request("P3")], log, clock)
    assert (crate["unknown_categories"], crate["missing_or_stale"], crate["decision"]) == (["kind"], [], 0)
    assert (nothing["unknown_categories"], nothing["missing_or_stale"]) == ([], ["parcels"])
    assert nothing["feature_times"] == {"parcels": None}
    assert nothing["probability"] == pytest.approx(0.5)


def test_the_record_holds_what_was_asked_used_and_said(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock, tmp_path: Path
) -> None:
    (said,) = answer(served, [request("P2", request_id="mine")], log, clock)
    (record,) = lines(tmp_path)
    assert (record["record"], record["id"], said["id"]) == (2, "mine", "mine")
    assert record["entity"] == {"depot": "D", "parcel": "P2"}
    assert record["features"] == {"weight": -1.0, "kind": "crate"}
    assert record["feature_times"] == said["feature_times"]
    assert (record["features_as_of"], record["features_snapshot"]) == ("2024-05-01T11:30:00+00:00", 12)
    assert (record["model_version"], record["snapshot"]) == ("v1", 7)
    assert (record["prediction"], record["decision"]) == ([said["probability"]], str(said["decision"]))
    assert record["latency_ms"] > 0
    assert datetime.fromisoformat(record["received_at"]).utcoffset() == timedelta(0)


def test_an_online_store_that_cannot_say_its_state_is_logged_as_such(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock, tmp_path: Path
) -> None:
    answer(replace(served, reader=Shelf(None, None)), [request("P1")], log, clock)
    (record,) = lines(tmp_path)
    assert (record["features_as_of"], record["features_snapshot"]) == (None, None)


def test_without_a_prediction_time_the_homes_clock_counts_not_the_machines(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock
) -> None:
    (said,) = answer(served, [request("P1", prediction_time=None)], log, clock)
    assert said["prediction_time"] == "2024-05-02T12:00:00+00:00"


def test_what_cannot_be_logged_is_not_answered(served: LoadedModel, clock: SimulatedClock, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file, where the folder should be")
    with pytest.raises(Unavailable, match="can't be logged, so it isn't answered: File exists"):
        answer(served, [request("P1")], RequestLog(tmp_path / "log"), clock)


def test_features_that_cannot_be_read_are_said_and_nothing_is_logged(
    served: LoadedModel, log: RequestLog, clock: SimulatedClock, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="Features can't be read: no such table"):
        answer(replace(served, reader=Broken()), [request("P1")], log, clock)
    assert lines(tmp_path) == []


# Other tasks

CLASSES = ("light", "fair", "heavy load")


def served_as(tmp_path: Path, task: str, **more: Any) -> LoadedModel:
    return LoadedModel(ServedModel.load(write_package(tmp_path / "models", "v1", task=task, **more)), Shelf(), None)


def keeps_to_its_form(signature: Signature, said: dict[str, Any], explained: dict[str, Any]) -> None:
    form = answer_form(signature)
    for each, one in ((form, said), (explained_form(signature, form), explained)):
        each.model_validate_json(json.dumps(one), strict=True)
        assert list(each.model_fields) == list(one)


def test_of_several_classes_each_has_its_probability(tmp_path: Path, log: RequestLog, clock: SimulatedClock) -> None:
    served = served_as(tmp_path, "multiclass", classes=CLASSES)
    said, light = answer(served, [request("P1"), request("P2")], log, clock)
    expected = prediction(served.model.signature, 0.0, 2.0)
    powers = [1, np.exp(2), np.exp(4)]
    assert expected == pytest.approx([each / sum(powers) for each in powers])
    assert said["probabilities"] == pytest.approx(dict(zip(CLASSES, expected, strict=True)), abs=1e-6)
    assert (said["decision"], light["decision"]) == ("heavy load", "light")
    assert "threshold" not in said
    first, second = lines(tmp_path)
    assert first["prediction"] == list(said["probabilities"].values())
    assert (first["decision"], second["decision"]) == ("heavy load", "light")
    assert "probabilities" not in first
    (explained,) = answer(served, [request("P1")], log, clock, explained=True)
    assert explained["base"] == pytest.approx(dict.fromkeys(CLASSES, 0.0))
    assert explained["raw_score"] == pytest.approx({"light": -2.0, "fair": 0.0, "heavy load": 2.0})
    weight, kind = explained["contributions"]
    assert (weight["feature"], weight["value"], kind["feature"]) == ("weight", 2.0, "kind")
    assert weight["contribution"] == pytest.approx({"light": -2.0, "fair": 0.0, "heavy load": 2.0})
    assert kind["contribution"] == dict.fromkeys(CLASSES, 0.0)
    keeps_to_its_form(served.model.signature, said, explained)
    assert "threshold" not in served.describe()


@pytest.mark.parametrize(
    ("scale", "value", "lower", "upper"),
    [(None, 2.0, 1.0, 4.0), ("log1p", np.exp(2) - 1, np.exp(1) - 1, np.exp(4) - 1)],
)
def test_a_number_is_answered_with_its_interval(
    tmp_path: Path, log: RequestLog, clock: SimulatedClock, scale: str | None, value: float, lower: float, upper: float
) -> None:
    served = served_as(tmp_path, "regression", scale=scale)
    (said,) = answer(served, [request("P1")], log, clock)
    assert (said["value"], said["lower"], said["upper"]) == pytest.approx((value, lower, upper), rel=1e-6)
    assert said["coverage"] == 0.9
    assert "decision" not in said
    (record,) = lines(tmp_path)
    assert (record["prediction"], record["decision"]) == ([said["value"], said["lower"], said["upper"]], None)
    (explained,) = answer(served, [request("P1")], log, clock, explained=True)
    assert (explained["base"], explained["raw_score"]) == pytest.approx((0.0, 2.0))
    assert [each["contribution"] for each in explained["contributions"]] == pytest.approx([2.0, 0.0])
    keeps_to_its_form(served.model.signature, said, explained)
    described, calibration = served.describe(), served.model.signature.calibration
    assert (described["coverage"], described["interval"]) == (0.9, calibration["interval"])


def test_a_binary_answer_keeps_to_its_form(served: LoadedModel, log: RequestLog, clock: SimulatedClock) -> None:
    said, explained = (answer(served, [request("P1")], log, clock, explained=each)[0] for each in (False, True))
    keeps_to_its_form(served.model.signature, said, explained)


@pytest.mark.parametrize(
    ("task", "more", "of_the_answer", "of_the_model"),
    [
        ("binary", {}, ["probability", "decision", "threshold"], ["threshold"]),
        ("multiclass", {"classes": CLASSES}, ["probabilities", "decision"], []),
        ("regression", {}, ["value", "lower", "upper", "coverage"], ["coverage", "interval"]),
    ],
)
def test_openapi_says_what_the_tasks_answer_holds(
    tmp_path: Path, task: str, more: dict[str, Any], of_the_answer: list[str], of_the_model: list[str]
) -> None:
    served = served_as(tmp_path, task, **more)
    signature, problem = served.model.signature, load_problem(Settings.from_environment().problem_file)
    schemas = openapi(problem, signature, FORM, batch_form(FORM, 5), with_tokens=False)["components"]["schemas"]
    assert list(schemas["Answer"]["properties"])[2:-7] == of_the_answer
    assert set(schemas["Model"]["required"]) == {*served.describe(), "request_fields", "refused", "shadow"}
    assert [name for name in schemas["Model"]["properties"] if name in of_the_model] == of_the_model
    assert schemas["Explained"]["properties"]["base"]["x-unit"] == signature.kind.score_unit


def test_a_package_of_before_other_tasks_is_served(tmp_path: Path, log: RequestLog, clock: SimulatedClock) -> None:
    signature = json.loads(SIGNATURE_OF_PARCELS.to_json()) | {"label_rate": 0.2, "threshold": 0.75}
    for name in ("history", "calibration", "classes", "scale"):
        del signature[name]
    sample = {"values": {"weight": [1.0], "kind": ["box"]}, "probabilities": [probability(0.0, 1.0)]}
    old = {SIGNATURE: json.dumps(signature).encode(), SAMPLE: json.dumps(sample).encode()}
    served = load_model(write_package(tmp_path / "models", "v0", more=old), None, lambda model: Shelf())
    (said,) = answer(served, [request("P1")], log, clock, explained=True)
    assert (said["probability"], said["decision"], said["threshold"]) == (pytest.approx(probability(0.0, 2.0)), 1, 0.75)
    assert served.describe()["threshold"] == 0.75
    assert lines(tmp_path)[0]["prediction"] == [said["probability"]]


def test_a_prediction_that_is_no_number_is_not_answered(
    tmp_path: Path, log: RequestLog, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARCELS, "P1", (1e30, "box"))  # beyond all scales: its value is infinite
    served = served_as(tmp_path, "regression", scale="log1p")
    with pytest.raises(Unavailable, match="v1 gives no finite number here"):
        answer(served, [request("P1")], log, clock)
    assert lines(tmp_path) == []


# Swapping


@pytest.fixture
def home(settings: Settings) -> Settings:
    write_package(settings.models, "v1")
    return settings


def promote(settings: Settings, version: str, at: datetime = NOON) -> None:
    champion.promote(settings, version, at, settings.verdicts / "verdict.json")


def test_the_bundled_model_serves_until_there_is_a_champion(home: Settings, tmp_path: Path) -> None:
    bundled = write_package(tmp_path / "bundled", "v0")
    champions = Champions(home, bundled, lambda model: Shelf())
    assert champions.serving.describe() == {
        "version": "v0",
        "snapshot": 7,
        "as_of": "2024-05-01T00:00:00+00:00",
        "promoted_at": None,
        "threshold": 0.5,
        "label": "Came late.",
        "feature_service": "parcels",
        "metrics": {"test": {"roc_auc": 0.75}},
        "problem": "parcels",
        "card": "# Tiny\n",
    }
    promote(home, "v1")
    assert champions.refresh()
    assert champions.serving.model.version == "v1"
    assert champions.serving.promoted_at == NOON.isoformat()
    assert not champions.refresh()


def test_nothing_to_serve_is_an_error(settings: Settings) -> None:
    with pytest.raises(HindcastError, match="no champion to serve"):
        Champions(settings, None, lambda model: Shelf())


def test_a_damaged_champion_leaves_the_old_one_serving(home: Settings) -> None:
    promote(home, "v1")
    champions = Champions(home, None, lambda model: Shelf())
    broken = write_package(home.models, "v2", bias=1.0)
    promote(home, "v2")
    (broken / "model.onnx").write_bytes(b"not what was packaged")
    assert not champions.refresh()
    assert champions.serving.model.version == "v1"
    assert "checksum" in (champions.refused or "")
    write_package(home.models, "v3", bias=2.0)
    promote(home, "v3")
    assert champions.refresh()
    assert (champions.serving.model.version, champions.refused) == ("v3", None)


def test_a_champion_of_other_request_fields_is_refused(home: Settings) -> None:
    promote(home, "v1")
    champions = Champions(home, None, lambda model: Shelf())
    write_package(home.models, "v2", signature=replace(SIGNATURE_OF_PARCELS, join_keys=("parcel",)))
    promote(home, "v2")
    assert not champions.refresh()
    assert "other request fields (join_keys)" in (champions.refused or "")


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({}, {"task": "regression"}, "task"),
        ({"task": "multiclass", "classes": CLASSES}, {"task": "multiclass", "classes": CLASSES[:2]}, "classes"),
        ({"task": "regression"}, {"task": "regression", "scale": "log1p"}, "scale"),
    ],
)
def test_a_champion_of_other_answers_is_refused(
    settings: Settings, first: dict[str, Any], second: dict[str, Any], named: str
) -> None:
    for version, more in (("v1", first), ("v2", second)):
        write_package(settings.models, version, **more)
    promote(settings, "v1")
    champions = Champions(settings, None, lambda model: Shelf())
    promote(settings, "v2")
    assert not champions.refresh()
    assert f"v2 gives other answers ({named})" in (champions.refused or "")


def test_a_champion_that_predicts_otherwise_here_is_refused(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(home, "v1")
    champions = Champions(home, None, lambda model: Shelf())
    write_package(home.models, "v2", bias=1.0)
    promote(home, "v2")
    monkeypatch.setattr(ServedModel, "smoke_test", lambda self: float("nan"))
    assert not champions.refresh()
    assert "predicts otherwise" in (champions.refused or "")


# The form of a request

FORM = request_form(SIGNATURE_OF_PARCELS, {"depot": "VARCHAR", "parcel": "VARCHAR"})


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"depot": "D"}, "parcel: missing field"),
        ({"parcel": "P"}, "depot: missing field"),
        ({"parcel": None, "depot": "D"}, "parcel: should be a valid string"),
        ({"parcel": 5, "depot": "D"}, "parcel: should be a valid string"),
        ({"parcel": "P", "depot": "D", "weight": 3}, "weight: unknown field"),
        (
            {"parcel": "P", "depot": "D", "prediction_time": "2024-05-01T12:00:00"},
            "prediction_time: should have timezone info",
        ),
        (
            {"parcel": "P", "depot": "D", "prediction_time": 5},
            "prediction_time: should be text, an instant of the years 1700 to 2199 as in 2024-05-01T12:00:00Z",
        ),
    ],
)
def test_a_fault_names_its_field(body: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FORM.model_validate_json(json.dumps(body))
    assert form_errors(caught.value) == fault


BLANK = "is empty; a key names something (a join key that isn't known is null)"


@pytest.mark.parametrize("types", [{"depot": "VARCHAR", "parcel": "VARCHAR"}, {}])
@pytest.mark.parametrize("blank", ["", " ", "   ", "\t\n", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}"])
def test_a_key_that_names_nothing_is_refused(types: dict[str, str], blank: str) -> None:
    form = request_form(SIGNATURE_OF_PARCELS, types)
    for body, fault in (
        ({"parcel": blank, "depot": "D"}, f"parcel: {BLANK}"),
        ({"parcel": "P", "depot": blank}, f"depot: {BLANK}"),
        ({"parcel": blank, "depot": blank}, f"parcel: {BLANK}; depot: {BLANK}"),
    ):
        with pytest.raises(ValidationError) as caught:
            form.model_validate_json(json.dumps(body))
        assert form_errors(caught.value) == fault
    assert form.model_validate_json('{"parcel": " P", "depot": null}').parcel == " P"  # type: ignore[attr-defined]


def test_of_many_faults_a_few_are_told_and_long_names_are_shortened() -> None:
    with pytest.raises(ValidationError) as caught:
        FORM.model_validate_json(json.dumps({"parcel": "P", "depot": "D", "x" * 5000: 1} | dict.fromkeys(range(999))))
    told = form_errors(caught.value).split("; ")
    assert told[:2] == ["x" * 100 + "…: unknown field", "0: unknown field"]
    assert told[9:] == ["8: unknown field", "and 990 more"]


@pytest.mark.parametrize(("number", "read"), [("7", 7), ("7.0", 7), ("-7e0", -7), ("null", None)])
def test_a_number_without_a_fraction_is_an_integer(number: str, read: int | None) -> None:
    form = request_form(SIGNATURE_OF_PARCELS, {"depot": "TINYINT", "parcel": "VARCHAR"})
    assert form.model_validate_json(f'{{"parcel": "P", "depot": {number}}}').depot == read  # type: ignore[attr-defined]
    for wrong in ("7.5", "true", '"7"', "128", "1e400", "NaN"):
        with pytest.raises(ValidationError):
            form.model_validate_json(f'{{"parcel": "P", "depot": {wrong}}}')


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_a_number_is_finite(number: str) -> None:
    form = request_form(SIGNATURE_OF_PARCELS, {"depot": "DOUBLE", "parcel": "VARCHAR"})
    with pytest.raises(ValidationError) as caught:
        form.model_validate_json(f'{{"parcel": "P", "depot": {number}}}')
    assert form_errors(caught.value) == "depot: should be a finite number"


@pytest.mark.parametrize("years", ["0001", "1699", "2200", "9999"])
def test_instants_that_no_table_holds_are_refused(years: str) -> None:
    with pytest.raises(ValidationError):
        FORM.model_validate({"parcel": "P", "depot": "D", "prediction_time": f"{years}-06-01T12:00:00Z"})


def test_a_field_of_an_unknown_type_says_in_one_sentence_what_it_takes() -> None:
    with pytest.raises(ValidationError) as caught:
        request_form(SIGNATURE_OF_PARCELS, {}).model_validate({"parcel": [], "depot": 1})
    assert (
        form_errors(caught.value) == "parcel: should be text of at most 1000 characters, a finite number, true or false"
    )


def test_more_rows_than_are_answered_are_not_checked() -> None:
    rows = batch_form(FORM, 2).model_validate_json('{"requests": [7, 7, 7]}').requests  # type: ignore[attr-defined]
    assert rows == [7, 7, 7]


def test_a_fact_that_is_not_known_may_be_null() -> None:
    assert FORM.model_validate_json('{"parcel": "P", "depot": null}').depot is None  # type: ignore[attr-defined]


def test_a_batch_keeps_the_rows_that_are_right() -> None:
    rows = '{"parcel": "P", "depot": "D", "prediction_time": "2024-05-01T12:00:00Z"}, {"parcel": 1}, 7'
    right, wrong, nonsense = batch_form(FORM, 5).model_validate_json(f'{{"requests": [{rows}]}}').requests
    assert (right.parcel, right.prediction_time) == ("P", NOON)
    assert wrong == Fault("parcel: should be a valid string; depot: missing field")
    assert isinstance(nonsense, Fault)


# What is served


def test_serving_without_a_champion_or_its_bento_says_what_to_do(home: Settings) -> None:
    with pytest.raises(HindcastError, match="There is no champion yet"):
        serve_forever(home, "127.0.0.1", 3001)
    promote(home, "v1")
    with pytest.raises(HindcastError, match="The bento of champion v1 hasn't been built"):
        serve_forever(home, "127.0.0.1", 3001)


# Processes

PARENT = """
import os, signal, subprocess, sys
if sys.argv[1] == "ignores":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "blocks":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
child = subprocess.Popen([sys.executable, "-m", "hindcast.serving.server", str(os.getpid()), "/bin/sleep", "10000"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("its_signals", ["as they are", "ignores", "blocks"])
def test_a_server_ends_when_its_starter_is_killed(its_signals: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, its_signals], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", parent)
    parent.kill()
    parent.wait()
    wait_for(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
