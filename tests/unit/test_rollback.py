"""Back to the champion before, in the rivers' world: it is asked again what it was asked, before it is put in use."""

from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.features.materialise import materialise
from hindcast.features.online import FeatureReader
from hindcast.features.store import apply
from hindcast.package.model import FEATURES
from hindcast.promotion import champion
from hindcast.promotion.rollback import roll_back
from tests.feature_world import REPOSITORY, at
from tests.served_rivers import Rivers, package

NOW = at("06 00:00")


@pytest.fixture
def rivers(tmp_path: Path) -> Rivers:
    """m1 answered twice at 09:30, from a store filled at 09:10; m2 is the champion since."""
    rivers = Rivers(tmp_path)
    materialise(rivers.settings, None, at("05 09:10"))
    package(rivers, "m2", bias=-20.0)
    promote(rivers, "m1")
    rivers.serve(("one", "A", 1, at("05 09:30")), ("two", "B", 2, at("05 09:30")))
    promote(rivers, "m2")
    rivers.serve(("three", "A", 1, at("05 09:40")), version="m2")
    return rivers


def promote(rivers: Rivers, version: str) -> None:
    champion.promote(rivers.settings, version, NOW, rivers.settings.verdicts / "verdict.json")


def test_it_is_put_in_use_once_it_answers_as_it_did(rivers: Rivers) -> None:
    done = roll_back(rivers.settings, rivers.lake, NOW)
    assert (done.version, done.rolled_back) == ("m1", "m2")
    assert (done.logged, done.replayed, done.max_difference) == (2, 2, 0.0)
    assert (done.snapshot, done.refilled) == (7, False)
    assert champion.champion_folder(rivers.settings).name == "m1"


def test_one_that_answers_otherwise_than_it_did_is_not_put_in_use(rivers: Rivers) -> None:
    rivers.write("UPDATE floods.requests SET prediction = [prediction[1] / 2] WHERE id = 'one'")
    with pytest.raises(HindcastError, match="m1 no longer answers as it did, so the champion stays"):
        roll_back(rivers.settings, rivers.lake, NOW)
    assert champion.champion_folder(rivers.settings).name == "m2"


def test_with_nothing_to_replay_it_says_so(rivers: Rivers) -> None:
    rivers.write("DELETE FROM floods.requests WHERE model_version = 'm1'")
    done = roll_back(rivers.settings, rivers.lake, NOW)
    assert (done.version, done.logged, done.replayed, done.max_difference) == ("m1", 0, 0, None)


def test_features_that_are_defined_otherwise_since_are_read_as_the_package_has_them(tmp_path: Path) -> None:
    rivers = Rivers(tmp_path)
    settings = rivers.settings
    for version in ("old", "new"):
        package(rivers, version)
        promote(rivers, version)
    # Since then, levels count for half an hour instead of six.
    (settings.feature_repo / "rivers.py").write_text(
        REPOSITORY.replace("ttl=timedelta(hours=6)", "ttl=timedelta(minutes=30)")
    )
    apply(settings, "rivers")
    materialise(settings, None, at("05 09:50"))
    row = {"gauge": "B", "river_id": 2, "reach": 4}
    assert FeatureReader(settings, "floods").read([row], [at("05 09:50")]).values["level"] == [None]
    # "new" is in use and defines them as "old" does: the store has been filled for it.
    assert not roll_back(settings, rivers.lake, at("05 09:50")).refilled
    restored = FeatureReader(settings, "floods", settings.models / "old" / FEATURES)
    assert restored.read([row], [at("05 09:50")]).values["level"] == [7]


def test_features_that_the_lake_no_longer_has_leave_the_champion(tmp_path: Path) -> None:
    rivers = Rivers(tmp_path)
    settings = rivers.settings
    for version in ("old", "new"):
        package(rivers, version)
        promote(rivers, version)
    rivers.write("ALTER TABLE features.levels DROP COLUMN level")
    with pytest.raises(HindcastError, match=r"features\.levels has no column level"):
        roll_back(settings, rivers.lake, NOW)
    assert champion.champion_folder(settings).name == "new"
