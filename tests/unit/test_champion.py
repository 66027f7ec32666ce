"""Which package is in use, and what was before it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.models.champion import apply_verdict, champion_folder, current, previous, promote, roll_back
from hindcast.settings import Settings
from tests.tiny_model import write_package

MAY, JUNE = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)


def verdict(settings: Settings, version: str, promoted: bool) -> Path:
    file = settings.verdicts / f"{version}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"promoted": promoted, "checks": [{"name": "bar", "holds": promoted}]}))
    return file


def test_there_is_none_before_the_first_promotion(settings: Settings) -> None:
    assert current(settings) is None and previous(settings) is None
    with pytest.raises(HindcastError, match="no champion yet"):
        champion_folder(settings)


def test_a_promotion_names_its_package_and_what_it_replaced(settings: Settings) -> None:
    for version in ("v1", "v2"):
        write_package(settings.models, version)
    promote(settings, "v1", MAY, verdict(settings, "v1", True))
    promote(settings, "v2", JUNE, verdict(settings, "v2", True))
    found, before = current(settings), previous(settings)
    assert found is not None and before is not None
    assert (found["version"], found["previous"], found["promoted_at"]) == ("v2", "v1", "2024-06-01T00:00:00+00:00")
    assert [entry["version"] for entry in found["history"]] == ["v1", "v2"]
    assert before["version"] == "v1"
    assert champion_folder(settings) == settings.models / "v2"


def test_promoting_what_is_in_use_changes_nothing(settings: Settings) -> None:
    write_package(settings.models, "v1")
    first = promote(settings, "v1", MAY, verdict(settings, "v1", True))
    assert promote(settings, "v1", JUNE, verdict(settings, "v1", True)) == first == current(settings)


def test_a_damaged_package_is_not_promoted(settings: Settings) -> None:
    (write_package(settings.models, "v1") / "card.md").write_text("changed")
    with pytest.raises(HindcastError, match=r"card\.md isn't what was packaged"):
        promote(settings, "v1", MAY, verdict(settings, "v1", True))
    assert current(settings) is None


def test_a_refused_challenger_leaves_the_champion(settings: Settings) -> None:
    for version in ("v1", "v2"):
        write_package(settings.models, version)
    verdict(settings, "v1", True)
    verdict(settings, "v2", False)
    assert apply_verdict(settings, "v1", MAY)["version"] == "v1"
    assert apply_verdict(settings, "v2", JUNE)["version"] == "v1"


def test_a_refused_first_challenger_is_an_error_that_says_why(settings: Settings) -> None:
    verdict(settings, "v1", False)
    with pytest.raises(HindcastError, match=r"v1 was refused \(bar\), and there is no earlier champion"):
        apply_verdict(settings, "v1", MAY)
    with pytest.raises(HindcastError, match="v2 was never judged"):
        apply_verdict(settings, "v2", MAY)


def in_use(settings: Settings, *versions: str) -> None:
    for version in versions:
        write_package(settings.models, version)
        promote(settings, version, MAY, verdict(settings, version, True))


def test_a_rollback_restores_the_champion_before_and_a_second_one_the_one_before_that(settings: Settings) -> None:
    in_use(settings, "v1", "v2", "v3")
    back = roll_back(settings, JUNE)
    assert back == current(settings)
    assert (back["version"], back["rolled_back"], back["previous"]) == ("v2", "v3", "v1")
    assert back["promoted_at"] == "2024-06-01T00:00:00+00:00"
    assert back["verdict"] == "v2.json"
    assert champion_folder(settings) == settings.models / "v2"
    assert roll_back(settings, JUNE)["version"] == "v1"
    with pytest.raises(HindcastError, match="no champion before the present one"):
        roll_back(settings, JUNE)
    assert [entry["version"] for entry in roll_forward(settings)] == ["v1", "v2", "v3", "v2", "v1", "v4"]
    before = previous(settings)
    assert before is not None and before["version"] == "v1"


def roll_forward(settings: Settings) -> list[dict[str, str]]:
    in_use(settings, "v4")
    found = current(settings)
    assert found is not None
    return found["history"]


def test_what_was_gone_back_from_is_not_put_in_use_by_its_old_verdict(settings: Settings) -> None:
    in_use(settings, "v1", "v2")
    roll_back(settings, JUNE)
    assert apply_verdict(settings, "v2", JUNE)["version"] == "v1"
    promote(settings, "v2", JUNE, verdict(settings, "v2", True))  # a person may
    assert champion_folder(settings).name == "v2"


def test_a_damaged_package_is_not_gone_back_to(settings: Settings) -> None:
    in_use(settings, "v1", "v2")
    (settings.models / "v1" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(HindcastError, match="checksum"):
        roll_back(settings, JUNE)
    assert champion_folder(settings).name == "v2"
