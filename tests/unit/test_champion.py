"""Which package is in use, and what was before it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.promotion.champion import (
    apply_verdict,
    champion_folder,
    current,
    current_shadow,
    packages_in_use,
    previous,
    promote,
    roll_back,
    set_shadow,
)
from hindcast.settings import Settings
from tests.tiny_model import write_package

MAY, JUNE = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)


def verdict(settings: Settings, version: str, promoted: bool) -> Path:
    file = settings.verdicts / f"{version}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    checks = [{"name": "bar", "holds": promoted}, {"name": "fine", "holds": True}]
    file.write_text(json.dumps({"promoted": promoted, "checks": checks}))
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


def test_the_file_holds_no_path_so_that_a_home_can_be_moved(settings: Settings, tmp_path: Path) -> None:
    in_use(settings, "v1", "v2")
    roll_back(settings, JUNE)
    assert str(tmp_path) not in settings.champion_file.read_text()
    found = current(settings)
    assert found is not None and found["verdict"] == "v1.json"
    moved = Settings(settings.root, settings.home.rename(tmp_path / "elsewhere"))
    assert champion_folder(moved) == tmp_path / "elsewhere" / "problems" / "flight_delay" / "models" / "v1"
    assert roll_forward(moved)[-1]["version"] == "v4"


def test_a_file_of_before_with_paths_in_it_is_read(settings: Settings) -> None:
    for version in ("v1", "v2"):
        write_package(settings.models, version)
    entries = [
        {
            "version": version,
            "path": f"/old/models/{version}",
            "promoted_at": MAY.isoformat(),
            "verdict": f"/old/verdicts/{version}.json",
            "previous": before,
        }
        for version, before in (("v1", None), ("v2", "v1"))
    ]
    settings.champion_file.write_text(json.dumps(entries[-1] | {"history": entries}))
    assert champion_folder(settings) == settings.models / "v2"
    back = roll_back(settings, JUNE)
    assert (back["version"], back["verdict"], "path" in back) == ("v1", "v1.json", False)


def test_with_one_champion_there_is_none_before_it(settings: Settings) -> None:
    in_use(settings, "v1")
    assert previous(settings) is None
    with pytest.raises(HindcastError, match="no champion before the present one"):
        roll_back(settings, JUNE)


def refuse(folder: Path) -> None:
    raise HindcastError(f"{folder.name} has no features.")


def test_what_is_to_be_done_before_is_done_before_and_where_it_fails_nothing_changes(settings: Settings) -> None:
    in_use(settings, "v1", "v2")
    write_package(settings.models, "v3")
    verdict(settings, "v3", True)
    seen: list[tuple[str, str]] = []

    def note(folder: Path) -> None:
        assert folder == settings.models / folder.name
        seen.append((folder.name, champion_folder(settings).name))

    before = settings.champion_file.read_text()
    for act in (
        lambda: promote(settings, "v3", JUNE, Path("v3.json"), refuse),
        lambda: apply_verdict(settings, "v3", JUNE, refuse),
        lambda: set_shadow(settings, "v3", JUNE, refuse),
    ):
        with pytest.raises(HindcastError, match="v3 has no features"):
            act()
    with pytest.raises(HindcastError, match="v1 has no features"):
        roll_back(settings, JUNE, refuse)
    assert (settings.champion_file.read_text(), current_shadow(settings)) == (before, None)
    set_shadow(settings, "v3", JUNE, note)
    apply_verdict(settings, "v3", JUNE, note)
    roll_back(settings, JUNE, note)
    assert seen == [("v3", "v2"), ("v3", "v2"), ("v2", "v3")]
    promote(settings, "v2", JUNE, Path("v2.json"), note)  # it is in use
    assert len(seen) == 3


def test_a_shadow_is_another_whole_package_until_it_is_promoted(settings: Settings) -> None:
    in_use(settings, "v1")
    write_package(settings.models, "v2")
    with pytest.raises(HindcastError, match="v1 is the champion; a shadow is another model beside it"):
        set_shadow(settings, "v1", MAY)
    with pytest.raises(HindcastError, match="is no model package"):
        set_shadow(settings, "v9", MAY)
    assert packages_in_use(settings) == [settings.models / "v1"]
    set_shadow(settings, "v2", JUNE)
    assert current_shadow(settings) == {"version": "v2", "since": "2024-06-01T00:00:00+00:00"}
    assert packages_in_use(settings) == [settings.models / "v1", settings.models / "v2"]
    in_use(settings, "v3")
    assert current_shadow(settings) is not None
    promote(settings, "v2", JUNE, Path("v2.json"))
    assert current_shadow(settings) is None
    set_shadow(settings, "v1", JUNE)
    set_shadow(settings, None, JUNE)
    set_shadow(settings, None, JUNE)  # a second time, too
    assert current_shadow(settings) is None


def test_before_there_is_a_champion_a_shadow_may_be_named(settings: Settings) -> None:
    write_package(settings.models, "v1")
    set_shadow(settings, "v1", MAY)
    assert packages_in_use(settings) == [settings.models / "v1"]


def test_what_a_person_replaced_is_not_put_in_use_by_its_old_verdict(settings: Settings) -> None:
    in_use(settings, "v1", "v2")
    write_package(settings.models, "v3")
    found = promote(settings, "v3", JUNE, Path("v3.json"), decided={"because": "it is calmer", "by": "ann"})
    assert (found["because"], found["by"], found["previous"]) == ("it is calmer", "ann", "v2")
    assert found == current(settings)
    assert apply_verdict(settings, "v2", JUNE)["version"] == "v3"
    assert (
        apply_verdict(settings, "v1", JUNE)["version"] == "v1"
    )  # v1 was replaced by the gate, which may bring it back


def test_a_promoted_verdict_promotes_once(settings: Settings) -> None:
    write_package(settings.models, "v1")
    verdict(settings, "v1", True)
    first = apply_verdict(settings, "v1", MAY)
    assert (first["version"], first["promoted_at"], len(first["history"])) == ("v1", "2024-05-01T00:00:00+00:00", 1)
    assert apply_verdict(settings, "v1", JUNE) == first
