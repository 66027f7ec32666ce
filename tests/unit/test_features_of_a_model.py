"""A model keeps the features that it was trained on, whatever the repository says later: online, in batch, at the gate.

In the rivers' world: m0 takes the level, the state and the moon's phase; then the repository drops the latter two.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hindcast.errors import HindcastError
from hindcast.evaluation.scoring import evaluate_period, score_period
from hindcast.features.feature_service import open_online_store
from hindcast.features.materialise import fill_for, materialise
from hindcast.features.online import FeatureReader
from hindcast.features.store import apply, open_store
from hindcast.package.model import FEATURES, ServedModel
from hindcast.promotion import champion
from hindcast.promotion.by_hand import promote_by_hand
from hindcast.promotion.gate import against_champion
from hindcast.promotion.rollback import roll_back
from hindcast.settings import Settings
from hindcast.tables import transform
from tests.feature_world import REPOSITORY, at, make_world, register
from tests.redis_server import redis_server, use_redis
from tests.served_rivers import LESS, SMALLER, Rivers, batch_problem, package, redeclare, trained

NOW = at("05 10:00")
A = {"gauge": "A", "river_id": 1, "reach": 4}


@pytest.fixture(params=["sqlite", "redis"])
def rivers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rivers]:
    """m0 is the champion; the store is filled."""
    if request.param == "sqlite":
        yield in_use(Rivers(tmp_path))
        return
    with redis_server(tmp_path) as server:
        made = Rivers.__new__(Rivers)
        made.set_up(register(use_redis(make_world(tmp_path), server.connection_string())))
        yield in_use(made)


@pytest.fixture
def sqlite_rivers(tmp_path: Path) -> Rivers:
    return in_use(Rivers(tmp_path))


def in_use(rivers: Rivers) -> Rivers:
    package(rivers, "m0")
    champion.promote(rivers.settings, "m0", NOW, Path("m0.json"))
    materialise(rivers.settings, None, NOW)
    return rivers


def served_by(rivers: Rivers, version: str, instant: datetime = NOW) -> dict[str, Any]:
    """Features and probability that a service gives, which opened its reader after whatever happened before."""
    model = ServedModel.load(rivers.settings.models / version)
    found = FeatureReader(rivers.settings, "floods", model.folder / FEATURES).read([A], [instant])
    assert found.stale == [[]]
    return {name: column[0] for name, column in found.values.items()} | {
        "probability": model.predict(model.matrix(found.values))[0, 0]
    }


def held(settings: Settings) -> dict[str, datetime]:
    config = open_store(settings).config
    return open_online_store(config).filled(config)


def scored(rivers: Rivers, version: str) -> list[tuple[Any, ...]]:
    model = ServedModel.load(rivers.settings.models / version)
    found = score_period(rivers.settings, batch_problem(), rivers.lake, model, at("05 00:00"), at("06 00:00"))
    return found.rows()


def test_a_champion_answers_the_same_after_features_were_removed_and_a_challenger_refused(rivers: Rivers) -> None:
    before, batch = served_by(rivers, "m0"), scored(rivers, "m0")
    assert (before["level"], before["state"], before["phase"]) == (31, "high", 0.25)
    redeclare(rivers)
    package(rivers, "m2", SMALLER)  # refused: m0 stays
    materialise(rivers.settings, None, NOW)
    assert served_by(rivers, "m0") == before
    assert scored(rivers, "m0") == batch
    rivers.write("INSERT INTO features.levels VALUES ('A', '2020-01-05 10:30', '2020-01-05 10:30', 40, 'flood')")
    materialise(rivers.settings, NOW, at("05 11:00"))  # it goes on being filled
    later = served_by(rivers, "m0", at("05 11:00"))
    assert (later["level"], later["state"], later["phase"]) == (40, "flood", 0.25)


def test_a_reader_that_is_open_while_features_are_removed_gives_the_same(rivers: Rivers) -> None:
    reader = FeatureReader(rivers.settings, "floods", rivers.settings.models / "m0" / FEATURES)
    before = reader.read([A], [NOW])
    redeclare(rivers)
    materialise(rivers.settings, None, NOW)
    assert reader.read([A], [NOW]) == replace(before, snapshot=reader.read([A], [NOW]).snapshot)


def test_a_successor_finds_a_filled_store_at_once_and_what_nobody_reads_any_more_goes(rivers: Rivers) -> None:
    settings = rivers.settings
    old = set(held(settings))
    redeclare(rivers)
    folder = package(rivers, "m2", SMALLER)
    with pytest.raises(HindcastError, match="The online store holds nothing of levels as the model takes it"):
        FeatureReader(settings, "floods", folder / FEATURES).read([A], [NOW])
    seen: list[dict[str, Any]] = []

    def prepare(package: Path) -> None:
        assert fill_for(settings, package, at("05 23:00"))
        seen.append(served_by(rivers, "m2"))
        assert champion.champion_folder(settings).name == "m0"  # it is filled first

    champion.promote(settings, "m2", NOW, Path("m2.json"), prepare)
    assert (seen[0]["level"], seen[0]["dry"]) == (31, 0)
    assert set(held(settings).values()) == {NOW}  # up to where it was filled, not to whatever it is now
    assert set(held(settings)) > old  # a service may not have swapped yet
    materialise(settings, None, NOW)
    assert served_by(rivers, "m2") == seen[0]
    gone = old - set(held(settings))
    assert len(gone) == 1 and "levels" in gone.pop()  # the moon stays registered
    with pytest.raises(HindcastError, match="holds nothing of levels"):
        served_by(rivers, "m0")


def test_what_is_filled_already_is_not_filled_again(rivers: Rivers) -> None:
    assert not fill_for(rivers.settings, rivers.settings.models / "m0", NOW)
    redeclare(rivers, REPOSITORY.replace("gauge = Entity(", "gauge = Entity(description='of a river', "))
    assert not fill_for(rivers.settings, package(rivers, "m2"), NOW)


def test_a_shadow_reads_its_own_features_while_it_is_asked(rivers: Rivers) -> None:
    settings = rivers.settings
    redeclare(rivers)
    package(rivers, "m2", SMALLER)
    redeclare(rivers, REPOSITORY)  # the trial is over, but for the shadow
    champion.set_shadow(settings, "m2", NOW, lambda folder: fill_for(settings, folder, NOW))
    assert served_by(rivers, "m2")["level"] == 31
    materialise(settings, None, NOW)
    assert served_by(rivers, "m2")["level"] == 31
    champion.set_shadow(settings, None, NOW)
    materialise(settings, None, NOW)
    with pytest.raises(HindcastError, match="holds nothing of levels"):
        served_by(rivers, "m2")
    assert served_by(rivers, "m0")["state"] == "high"


def test_gone_back_to_it_reads_its_own_features_again(rivers: Rivers) -> None:
    settings, before = rivers.settings, served_by(rivers, "m0")
    redeclare(rivers)
    package(rivers, "m2", SMALLER)
    champion.promote(settings, "m2", NOW, Path("m2.json"), lambda folder: fill_for(settings, folder, NOW))
    materialise(settings, None, NOW)
    done = roll_back(settings, rivers.lake, NOW)
    assert (done.version, done.refilled) == ("m0", True)
    assert served_by(rivers, "m0") == before


def drop_the_column(rivers: Rivers, _: pytest.MonkeyPatch) -> None:
    rivers.write("ALTER TABLE features.levels DROP COLUMN state")


def drop_the_table(rivers: Rivers, _: pytest.MonkeyPatch) -> None:
    rivers.write("DROP TABLE features.moon")


def make_the_table_no_more(rivers: Rivers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the lake as it was, but dbt has no model of it any more, and nobody registers it."""
    rivers.settings.dbt_project.mkdir()
    (rivers.settings.dbt_project / "dbt_project.yml").touch()
    nodes = {name: {"schema": "features", "alias": name} for name in ("levels", "rivers")}
    monkeypatch.setattr(transform, "manifest", lambda _: {"nodes": nodes | {"a test": {"schema": "tests"}}})


NO_MOON = LESS[: LESS.index("moon = FeatureView(")] + LESS[LESS.index("@on_demand_feature_view(") :]
Fault = Callable[[Rivers, pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (drop_the_column, r"Feature view levels: features\.levels has no column state\."),
        (drop_the_table, r"Feature view moon: the lake has no table features\.moon\."),
        (make_the_table_no_more, r"Feature view moon: the dbt project no longer makes features\.moon\."),
    ],
)
def test_what_can_no_longer_be_made_is_said_wherever_it_is_asked_for(
    sqlite_rivers: Rivers, monkeypatch: pytest.MonkeyPatch, fault: Fault, reason: str
) -> None:
    rivers, settings = sqlite_rivers, sqlite_rivers.settings
    redeclare(rivers, NO_MOON)
    fault(rivers, monkeypatch)
    told = rf"m0 can no longer get its features\. {reason}"
    package(rivers, "m2", SMALLER)
    with pytest.raises(HindcastError, match=told):
        materialise(settings, None, at("05 11:00"))
    assert set(held(settings).values()) == {at("05 11:00")}  # what others read is filled all the same
    with pytest.raises(HindcastError, match=told):
        scored(rivers, "m0")
    assert len(scored(rivers, "m2")) == 4

    question, changed, check = against_champion(
        settings, batch_problem(), trained(rivers), ServedModel.load(settings.models / "m2"), "m0"
    )
    assert (question, changed, check.name, check.holds) == ("change", ("features",), "comparable_with_champion", False)
    assert "no longer" in check.detail or "no column state" in check.detail
    assert check.detail.endswith('A person decides: `hindcast promote m2 --because "…"`.')

    done = promote_by_hand(settings, batch_problem(), "m2", "m0's features are gone", NOW)
    assert (done.version, done.previous) == ("m2", "m0")
    materialise(settings, None, at("05 11:00"))
    champion.set_shadow(settings, None, NOW)
    with pytest.raises(HindcastError, match=told):
        roll_back(settings, rivers.lake, NOW)
    assert champion.champion_folder(settings).name == "m2"


def test_a_period_is_judged_by_the_models_own_features_and_baseline(sqlite_rivers: Rivers) -> None:
    rivers = sqlite_rivers
    model = ServedModel.load(rivers.settings.models / "m0")

    def judged() -> dict[str, Any]:
        return evaluate_period(rivers.settings, batch_problem(), rivers.lake, model, at("05 00:00"), at("06 00:00"))

    before = judged()
    redeclare(rivers)
    assert judged() == before
    # River 1 (labels 1 and 0) has a rate of 0.75, river 2 (1 and 0) the overall one of 0.5.
    assert before["baseline_roc_auc"] == 0.5
    assert before["rows"] == 4


def test_the_store_is_filled_afresh_where_a_gap_would_be_left(sqlite_rivers: Rivers) -> None:
    settings = sqlite_rivers.settings
    sqlite_rivers.write("INSERT INTO features.levels VALUES ('A', '2020-01-05 10:30', '2020-01-05 10:30', 40, 'flood')")
    materialise(settings, at("05 11:00"), at("05 12:00"))  # it was filled until ten
    assert served_by(sqlite_rivers, "m0", at("05 12:00"))["level"] == 40


TIDES = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int32
from hindcast.features.lake_source import LakeSource

strait = Entity(name="strait", join_keys=["river_id"], value_type=ValueType.INT32)
tides = FeatureView(
    name="tides", entities=[strait], ttl=timedelta(0), source=LakeSource(name="tides", table="features.rivers"),
    schema=[Field(name="river_id", dtype=Int32), Field(name="length", dtype=Float64)],
)
high_tide = FeatureService(name="high_tide", features=[tides])
"""


def add_tides(rivers: Rivers) -> Settings:
    """Another domain in the same home, whose clock stands a day later; the settings of its problem."""
    settings = rivers.settings.of("high_tide")
    (settings.feature_repo / "tides.py").write_text(TIDES)
    apply(settings, "tides")
    materialise(settings, None, at("06 10:00"), "high_tide")
    return settings


def test_a_package_is_filled_up_to_its_own_domains_instant(sqlite_rivers: Rivers) -> None:
    rivers, settings = sqlite_rivers, sqlite_rivers.settings
    before = held(settings)
    add_tides(rivers)
    redeclare(rivers, LESS.replace("ttl=timedelta(hours=6)", "ttl=timedelta(hours=5)"))
    package(rivers, "m2", SMALLER)
    assert fill_for(settings, settings.models / "m2", NOW)
    assert {instant for name, instant in held(settings).items() if "_tides_" not in name} == {NOW}
    assert before.items() <= held(settings).items()  # what others read was left as it is
    assert served_by(rivers, "m2")["level"] == 31


def test_a_problem_that_was_taken_out_stops_nobody(sqlite_rivers: Rivers) -> None:
    """Its champion's package lies in the home still; and of one that is there, the tables may be gone."""
    rivers, settings = sqlite_rivers, sqlite_rivers.settings
    other = settings.of("old_floods")
    shutil.copytree(settings.models, other.models)
    shutil.copyfile(settings.champion_file, other.champion_file)
    rivers.write("DROP TABLE features.moon")
    redeclare(rivers, NO_MOON)
    champion.promote(settings, package(rivers, "m2", SMALLER).name, NOW, Path("m2.json"))
    assert any("_moon_" in name for name in held(settings))
    materialise(settings, None, at("05 11:00"), "floods")
    assert not any("_moon_" in name for name in held(settings))  # nobody reads it any more
    other.problem_file.parent.mkdir(exist_ok=True)
    other.problem_file.write_text("{}")
    materialise(settings, None, at("05 11:00"), "floods")
