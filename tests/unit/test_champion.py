"""Which package is in use, and what was before it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.models.champion import champion_folder, current, previous, promote, settle
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
    assert settle(settings, "v1", MAY)["version"] == "v1"
    assert settle(settings, "v2", JUNE)["version"] == "v1"


def test_a_refused_first_challenger_is_an_error_that_says_why(settings: Settings) -> None:
    verdict(settings, "v1", False)
    with pytest.raises(HindcastError, match=r"v1 was refused \(bar\), and there is no earlier champion"):
        settle(settings, "v1", MAY)
    with pytest.raises(HindcastError, match="v2 was never judged"):
        settle(settings, "v2", MAY)
