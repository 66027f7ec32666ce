"""A challenger beside the champion: what it is asked and logs, and that nothing of it reaches an answer."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.package.model import ServedModel
from hindcast.promotion import champion
from hindcast.serving.predict import LoadedModel, Reader, answer
from hindcast.serving.request_log import RequestLog
from hindcast.serving.shadow import Shadow
from hindcast.settings import Settings
from tests.patience import wait_for
from tests.tiny_model import probability, write_package
from tests.unit.test_serving import Shelf

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with a champion, v1, and a challenger, v2, whose log-odds are higher by 1."""
    settings = Settings(tmp_path, tmp_path / "home")
    for version, bias in (("v1", 0.0), ("v2", 1.0)):
        write_package(settings.models, version, bias)
    champion.promote(settings, "v1", NOON, settings.verdicts / "verdict.json")
    return settings


def clock_of(settings: Settings) -> SimulatedClock:
    return SimulatedClock(settings.clock_file("parcels"), NOON + timedelta(days=1))


def shadow_of(
    settings: Settings, connect: Callable[[ServedModel], Reader] = lambda model: Shelf(), **more: Any
) -> Shadow:
    shadow = Shadow(settings, connect, clock_of(settings), **more)
    shadow.refresh()
    return shadow


def ask(settings: Settings, shadow: Shadow, *parcels: str) -> list[dict[str, Any]]:
    """What the champion answers at noon; the shadow is offered the same."""
    served = LoadedModel(ServedModel.load(settings.models / "v1"), Shelf(), None)
    requests = [{"depot": "D", "parcel": parcel, "prediction_time": NOON, "request_id": None} for parcel in parcels]
    said = answer(served, requests, RequestLog(settings.request_log), clock_of(settings))
    shadow.offer(requests, said)
    return said


def records(settings: Settings) -> dict[str, dict[str, Any]]:
    lines = [line for file in settings.shadow_log.glob("*") for line in file.read_text().splitlines()]
    return {record["id"]: record for record in map(json.loads, lines)}


def test_it_is_asked_the_same_as_of_the_same_instant_and_logs_apart(settings: Settings) -> None:
    champion.set_shadow(settings, "v2", NOON)
    shadow = shadow_of(settings)
    said = ask(settings, shadow, "P1", "P2")
    wait_for(lambda: shadow.answered == 2)
    found = records(settings)
    assert set(found) == {one["id"] for one in said}
    for one, weight in zip(said, (2.0, -1.0), strict=True):
        record = found[one["id"]]
        assert record["prediction_time"] == one["prediction_time"]
        assert record["model_version"] == "v2"
        assert record["prediction"] == pytest.approx([probability(1.0, weight)], abs=1e-6)
        assert one["probability"] == pytest.approx(probability(0.0, weight), abs=1e-6)
    assert shadow.describe() == {
        "version": "v2", "waiting": 0, "answered": 2, "dropped": 0, "failed": 0, "failure": None,
    }  # fmt: skip


def test_without_one_nothing_is_kept(settings: Settings) -> None:
    shadow = shadow_of(settings)
    ask(settings, shadow, "P1")
    assert shadow.describe() is None
    champion.set_shadow(settings, "v2", NOON)
    shadow.refresh()
    ask(settings, shadow, "P2")
    wait_for(lambda: shadow.answered == 1)
    champion.set_shadow(settings, None, NOON)
    shadow.refresh()
    ask(settings, shadow, "P3")
    time.sleep(0.2)
    assert shadow.answered == len(records(settings)) == 1


def test_one_that_fails_is_counted_and_goes_on_when_it_can(settings: Settings) -> None:
    class Fails(Shelf):
        broken = True

        def read(self, rows: Any, at: Any) -> Any:
            if self.broken:
                raise ZeroDivisionError("a challenger's mistake")
            return super().read(rows, at)

    champion.set_shadow(settings, "v2", NOON)
    reader = Fails()
    shadow = shadow_of(settings, lambda model: reader)
    assert ask(settings, shadow, "P1")[0]["probability"] == pytest.approx(probability(0.0, 2.0), abs=1e-6)
    wait_for(lambda: shadow.failed == 1)
    assert shadow.failure == "ZeroDivisionError: a challenger's mistake"
    reader.broken = False
    ask(settings, shadow, "P1")
    wait_for(lambda: shadow.answered == 1)
    assert shadow.failure is None


def test_a_slow_one_holds_nobody_up_and_what_it_cannot_take_is_dropped_and_counted(settings: Settings) -> None:
    gate = threading.Event()

    class Slow(Shelf):
        def read(self, rows: Any, at: Any) -> Any:
            gate.wait(20)
            return super().read(rows, at)

    champion.set_shadow(settings, "v2", NOON)
    shadow = shadow_of(settings, lambda model: Slow(), most_waiting=3)
    ask(settings, shadow, "P1")
    wait_for(lambda: shadow.describe()["waiting"] == 0)  # type: ignore[index]
    said = ask(settings, shadow, "P1", "P2", "P3", "P1", "P2")  # answered while the challenger is still at its first
    assert len(said) == 5
    assert (shadow.answered, shadow.dropped) == (0, 2)
    gate.set()
    wait_for(lambda: shadow.answered == 4)
    assert shadow.dropped == 2


def test_a_damaged_one_is_never_asked_and_said_to_be(settings: Settings) -> None:
    champion.set_shadow(settings, "v2", NOON)
    (settings.models / "v2" / "model.onnx").write_bytes(b"damaged")
    shadow = shadow_of(settings)
    ask(settings, shadow, "P1")
    wait_for(lambda: shadow.failed == 1)
    assert "checksum" in str(shadow.failure)
    assert records(settings) == {}


def test_only_another_whole_model_can_be_one(settings: Settings) -> None:
    with pytest.raises(HindcastError, match="v1 is the champion"):
        champion.set_shadow(settings, "v1", NOON)
    with pytest.raises(HindcastError, match="v9 is no model package"):
        champion.set_shadow(settings, "v9", NOON)
    assert champion.current_shadow(settings) is None


def test_a_challenger_that_is_promoted_is_no_shadow_any_more(settings: Settings) -> None:
    champion.set_shadow(settings, "v2", NOON)
    champion.promote(settings, "v2", NOON, settings.verdicts / "verdict.json")
    assert champion.current_shadow(settings) is None
