"""What a person decides: a promotion by hand, and a package of another home."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hindcast.cli import cli
from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.evaluation.scoring import score_period
from hindcast.package.model import CHECKSUMS, FEATURES, METADATA, SAMPLE, SIGNATURE, ServedModel
from hindcast.promotion import by_hand, champion
from hindcast.promotion.by_hand import import_package, promote_by_hand
from hindcast.promotion.champion import apply_verdict, current
from hindcast.promotion.verdict import verdict_file
from hindcast.serving.bento import _copy_package
from tests.feature_world import ROOT, at
from tests.served_rivers import SIGNATURE as RIVERS
from tests.served_rivers import Rivers, package
from tests.served_rivers import batch_problem as problem
from tests.tiny_model import write_package

NOW = at("05 10:00")
RIVERS_SOURCES = """
folder: .
clock: {start: 2020-01-05T00:00:00Z, demo_until: 2020-01-06T00:00:00Z, refresh_every: 1 hour}
tables: {levels: {file: levels.csv, format: csv, columns: {gauge: VARCHAR}}}
"""


@pytest.fixture(autouse=True)
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand.getpass, "getuser", lambda: "ann")


@pytest.fixture
def rivers(tmp_path: Path) -> Rivers:
    """m1 is the champion, m2 was refused."""
    rivers = Rivers(tmp_path / "here")
    champion.promote(rivers.settings, "m1", NOW, Path("m1.json"))
    rivers.package("m2")
    verdict_file(rivers.settings, "m2").parent.mkdir()
    verdict_file(rivers.settings, "m2").write_text(
        json.dumps({"version": "m2", "verdict": "a person decides", "promoted": False, "checks": [], "earlier": []})
    )
    return rivers


def test_a_promotion_by_hand_says_who_when_and_why(rivers: Rivers) -> None:
    settings = rivers.settings
    done = promote_by_hand(settings, problem(), "m2", "m1's features are gone", NOW)
    assert (done.version, done.previous, done.by, done.at) == ("m2", "m1", "ann", "2020-01-05T10:00:00+00:00")
    assert done.filled and done.smoke_difference < 1e-6
    entry = current(settings)
    assert entry is not None
    assert (entry["version"], entry["because"], entry["by"]) == ("m2", "m1's features are gone", "ann")
    assert entry["history"][-1]["because"] == "m1's features are gone"
    kept = json.loads(verdict_file(settings, "m2").read_text())
    assert (kept["verdict"], kept["promoted"]) == ("a person decides", False)
    assert kept["decisions"] == [
        {"decision": "promote", "because": "m1's features are gone", "by": "ann", "at": "2020-01-05T10:00:00+00:00"}
    ]
    assert apply_verdict(settings, "m2", NOW)["version"] == "m2"  # the next run leaves it


def test_what_a_person_replaced_is_not_put_back_by_its_old_verdict(rivers: Rivers) -> None:
    settings = rivers.settings
    verdict_file(settings, "m1").write_text(json.dumps({"version": "m1", "promoted": True, "checks": []}))
    promote_by_hand(settings, problem(), "m2", "no more m1", NOW)
    assert apply_verdict(settings, "m1", NOW)["version"] == "m2"
    assert champion.roll_back(settings, NOW)["version"] == "m1"


def damage(rivers: Rivers) -> None:
    (rivers.settings.models / "m2" / "model.onnx").write_bytes(b"")


def of_another_problem(rivers: Rivers) -> None:
    shutil.rmtree(rivers.settings.models / "m2")
    write_package(rivers.settings.models, "m2", signature=replace(RIVERS, problem="droughts"))


def lying(rivers: Rivers) -> None:
    other_answers(rivers.settings.models / "m2")


def rewrite(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Changes a file of a package, and its checksum with it."""
    content = change((folder / name).read_text()).encode()
    (folder / name).write_bytes(content)
    checksums = json.loads((folder / CHECKSUMS).read_text()) | {name: hashlib.sha256(content).hexdigest()}
    (folder / CHECKSUMS).write_text(json.dumps(checksums))


@pytest.mark.parametrize(
    ("fault", "version", "because", "message"),
    [
        (None, "m9", "x", r"There is no package m9 in .*; there are: m1, m2\."),
        (None, "../models/m2", "x", "There is no package"),
        (None, "m2", "  ", "--because must not be empty"),
        (None, "m1", "x", "m1 is the champion already"),
        (damage, "m2", "x", r"model\.onnx isn't what was packaged"),
        (of_another_problem, "m2", "x", r"m2 is a model of droughts, not of floods\."),
        (lying, "m2", "x", "m2 predicts otherwise here than when it was packaged"),
    ],
)
def test_what_cannot_be_used_is_not_put_in_use_and_nothing_is_recorded(
    rivers: Rivers, fault: Callable[[Rivers], None] | None, version: str, because: str, message: str
) -> None:
    if fault:
        fault(rivers)
    before = rivers.settings.champion_file.read_text()
    with pytest.raises(HindcastError, match=message):
        promote_by_hand(rivers.settings, problem(), version, because, NOW)
    assert rivers.settings.champion_file.read_text() == before
    assert "decisions" not in json.loads(verdict_file(rivers.settings, "m2").read_text())


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A package of another home, whose lake has the same snapshots' numbers."""
    others = Rivers(tmp_path / "there")
    return write_package(
        others.settings.models,
        "floods-20200105-abcdef01",
        bias=-25.0,
        signature=RIVERS,
        more={FEATURES: others.settings.feast_registry.read_bytes()},
        lake=others.lake.identity(),
    )


def test_a_package_of_another_home_is_brought_in_scored_asked_and_promoted(rivers: Rivers, theirs: Path) -> None:
    settings = rivers.settings
    done = import_package(settings, problem(), theirs, NOW)
    assert (done.version, done.origin, done.by) == (theirs.name, str(theirs), "ann")
    assert done.lake not in (None, rivers.lake.identity())
    there = settings.models / done.version
    assert json.loads((there / "origin.json").read_text()) == {
        "from": str(theirs),
        "at": "2020-01-05T10:00:00+00:00",
        "by": "ann",
    }
    model = ServedModel.load(there)
    assert (model.folder / FEATURES).read_bytes() == (theirs / FEATURES).read_bytes()
    scored = score_period(settings, problem(), rivers.lake, model, at("05 00:00"), at("06 00:00"))
    assert scored["model_version"].unique().to_list() == [done.version]
    champion.set_shadow(settings, done.version, NOW)
    assert promote_by_hand(settings, problem(), done.version, "theirs is better", NOW).version == done.version
    kept = json.loads(verdict_file(settings, done.version).read_text())
    assert (kept["verdict"], len(kept["decisions"])) == ("never judged", 1)
    assert champion.current_shadow(settings) is None


def no_checksums(folder: Path) -> None:
    (folder / CHECKSUMS).unlink()


def broken_json(folder: Path) -> None:
    (folder / CHECKSUMS).write_text("{")


def damaged(folder: Path) -> None:
    (folder / "card.md").write_text("other")


def another_problem(folder: Path) -> None:
    rewrite(folder, SIGNATURE, lambda text: text.replace('"problem": "floods"', '"problem": "droughts"'))


def another_task(folder: Path) -> None:
    rewrite(folder, SIGNATURE, lambda text: text.replace('"task": "binary"', '"task": "regression"'))


def other_answers(folder: Path) -> None:
    rewrite(folder, SAMPLE, lambda text: json.dumps(json.loads(text) | {"predictions": [[0.5], [0.5]]}))


def no_features(folder: Path) -> None:
    checksums = json.loads((folder / CHECKSUMS).read_text())
    del checksums[FEATURES]
    (folder / CHECKSUMS).write_text(json.dumps(checksums))


def a_bentos_copy(folder: Path) -> None:
    _copy_package(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


def a_path_for_a_version(folder: Path) -> None:
    rewrite(folder, METADATA, lambda text: text.replace(folder.name, "../champion"))


def files_outside(folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    checksums = json.loads((folder / CHECKSUMS).read_text())
    checksums["../secret"] = hashlib.sha256(b"x").hexdigest()
    (folder / CHECKSUMS).write_text(json.dumps(checksums))


def another_entity(folder: Path) -> None:
    rewrite(folder, SIGNATURE, lambda text: text.replace('"entity_key": "day_id"', '"entity_key": "week_id"'))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (no_checksums, "is no model package: it has no checksums.json"),
        (broken_json, "is no model package: JSONDecodeError"),
        (damaged, r"card\.md isn't what was packaged"),
        (another_problem, r"is a model of droughts, not of floods\."),
        (
            another_task,
            r"predicts value, lower, upper \(regression\), and problems/floods\.yaml declares probability \(",
        ),
        (other_answers, "predicts otherwise here than when it was packaged"),
        (no_features, r"was made without features\.db, which every package has today, so it can't be used any more"),
        (a_bentos_copy, r"has no reference\.parquet: it is a bento's copy"),
        (a_path_for_a_version, "'../champion' is no version's name"),
        (files_outside, "names '../secret', which isn't a file of the package"),
        (another_entity, r"split\.days has no column week_id"),
    ],
)
def test_what_is_no_good_here_is_not_brought_in(
    rivers: Rivers, theirs: Path, fault: Callable[[Path], None], message: str
) -> None:
    fault(theirs)
    with pytest.raises(HindcastError, match=message):
        import_package(rivers.settings, problem(), theirs, NOW)
    assert sorted(path.name for path in rivers.settings.models.iterdir()) == ["m1", "m2"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "ALTER TABLE features.levels DROP COLUMN state",
            r"can't be used here: .*features\.levels has no column state",
        ),
        ("DROP TABLE features.moon", r"can't be used here: .*the lake has no table features\.moon"),
    ],
)
def test_without_its_tables_and_columns_a_package_is_not_brought_in(
    rivers: Rivers, theirs: Path, sql: str, message: str
) -> None:
    rivers.write(sql)
    with pytest.raises(HindcastError, match=message):
        import_package(rivers.settings, problem(), theirs, NOW)
    assert sorted(path.name for path in rivers.settings.models.iterdir()) == ["m1", "m2"]


def test_what_is_here_already_is_not_brought_in_again(rivers: Rivers, theirs: Path) -> None:
    import_package(rivers.settings, problem(), theirs, NOW)
    with pytest.raises(HindcastError, match=f"{theirs.name} is in this home already"):
        import_package(rivers.settings, problem(), theirs, NOW)


@pytest.fixture
def command(rivers: Rivers, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `hindcast` in the rivers' home, as of its clock."""
    settings = rivers.settings
    content = yaml.safe_load((ROOT / "problems" / "flight_delay.yaml").read_text())
    content |= {"name": "floods", "domain": "rivers", "labeled_table": "split.days", "split_table": "split.days"}
    content |= {"feature_service": "floods", "entity": {"name": "day", "key": "day_id"}}
    content["prediction_time"]["column"] = "asked_at"
    content["label"] |= {"column": "flooded", "known_at": "flooded_known_at"}
    settings.sources_folder.mkdir(parents=True)
    settings.sources_file("rivers").write_text(RIVERS_SOURCES)
    settings.problem_file.write_text(yaml.safe_dump(content))
    SimulatedClock(settings.clock_file("rivers"), NOW).move_to(at("20 00:00"))
    monkeypatch.setenv("HINDCAST_ROOT", str(settings.root))
    monkeypatch.delenv("HINDCAST_PROBLEM", raising=False)
    monkeypatch.setenv("HINDCAST_HOME", str(settings.home))

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.output) if "--json" in arguments else done.output

    return run


def test_the_commands_say_what_was_done(rivers: Rivers, theirs: Path, command: Callable[..., Any]) -> None:
    brought = command("import", str(theirs), "--json")
    assert (brought["version"], brought["origin"], brought["by"]) == (theirs.name, str(theirs), "ann")
    package(rivers, "m3")
    judged = command("evaluate", "--from", "2020-01-05", "--to", "2020-01-05", "--model", "m3", "--json")
    assert (judged["model_version"], judged["rows"]) == ("m3", 4)
    assert command("shadow", theirs.name) == f"{theirs.name} is asked beside the champion.\n"
    promoted = command("promote", theirs.name, "--because", "it floods", "--json")
    assert (promoted["version"], promoted["previous"], promoted["because"]) == (theirs.name, "m1", "it floods")
    said = command("promote", "m2", "--because", "it floods less")
    assert said.startswith(f"m2 is the champion; before it: {theirs.name}.\nRecorded: ann decided at 2020-01-20T00:00")
