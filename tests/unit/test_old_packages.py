"""What was made when all problems were binary goes on working: loaded, asked, judged, gone back to, compared with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.evaluation.evaluate import evaluate
from hindcast.evaluation.leak_checks import check_models
from hindcast.evaluation.scoring import evaluate_period, score_period
from hindcast.package.build import build
from hindcast.package.model import BASELINE, CHECKSUMS, EXPLAINER, FEATURES, SIGNATURE, ServedModel, Signature
from hindcast.package.reference import History
from hindcast.promotion import champion
from hindcast.promotion.by_hand import import_package, promote_by_hand
from hindcast.promotion.gate import against_champion, bar_checks
from hindcast.settings import Settings
from tests.feature_world import at
from tests.made_up_problem import parcels_problem, trained_parcels
from tests.served_rivers import Rivers, batch_problem, package, trained
from tests.tiny_model import SIGNATURE_OF_PARCELS, as_before, probability, write_package

NOW = at("05 10:00")


def test_a_package_of_before_says_and_explains_the_same(tmp_path: Path) -> None:
    now = ServedModel.load(write_package(tmp_path, "now", bias=0.5))
    folder = as_before(write_package(tmp_path, "before", bias=0.5))
    written = json.loads((folder / SIGNATURE).read_text())
    assert (written["label_rate"], written["threshold"]) == (0.2, 0.5) and "calibration" not in written
    before = ServedModel.load(folder)
    assert before.signature == now.signature == SIGNATURE_OF_PARCELS
    matrix = now.matrix({"weight": [1.0, None], "kind": ["box", "bag"]})
    np.testing.assert_array_equal(before.predict(matrix), now.predict(matrix))
    np.testing.assert_array_equal(before.explain(matrix).contributions, now.explain(matrix).contributions)
    assert before.smoke_test() == now.smoke_test() < 1e-6
    assert before.task.answer(before.predict(matrix)[0], before.signature.calibration) == {
        "probability": pytest.approx(probability(0.5, 1.0)), "decision": 1, "threshold": 0.5,
    }  # fmt: skip
    assert Signature.from_json(before.signature.to_json()) == before.signature


def test_it_still_notices_that_it_predicts_otherwise(tmp_path: Path) -> None:
    folder = as_before(write_package(tmp_path, "before"))
    sample = json.loads((folder / "sample.json").read_text())
    (folder / "sample.json").write_text(json.dumps(sample | {"probabilities": [0.5, 0.5]}))
    model = ServedModel(folder, SIGNATURE_OF_PARCELS, {"version": "before"}, (folder / "model.onnx").read_bytes())
    assert model.smoke_test() == pytest.approx(probability(0.0, 1.0) - 0.5, abs=1e-6)


@pytest.fixture
def rivers(tmp_path: Path) -> Rivers:
    """The champion `old` is of before; `new` is of today."""
    rivers = Rivers(tmp_path)
    as_before(package(rivers, "old", bias=-25.0))
    package(rivers, "new", bias=-20.0)
    champion.promote(rivers.settings, "old", NOW, Path("old.json"))
    return rivers


def loaded(rivers: Rivers, version: str) -> ServedModel:
    return ServedModel.load(rivers.settings.models / version)


def test_its_rates_are_read(rivers: Rivers) -> None:
    assert "rates" in json.loads((rivers.settings.models / "old" / BASELINE).read_text())
    old, new = (History.read(loaded(rivers, version)) for version in ("old", "new"))
    assert old.columns == new.columns == ("river_id",)
    assert old.overall.tolist() == new.overall.tolist() == [0.5]
    assert {group: means.tolist() for group, means in old.groups.items()} == {("1",): [0.75]}


def test_it_scores_and_is_judged_on_a_period(rivers: Rivers) -> None:
    scored = score_period(rivers.settings, batch_problem(), rivers.lake, loaded(rivers, "old"), at("05 00:00"), NOW)
    assert scored["probability"].is_between(0, 1).all() and set(scored["model_version"]) == {"old"}
    found = evaluate_period(
        rivers.settings, batch_problem(), rivers.lake, loaded(rivers, "old"), at("05 00:00"), at("06 00:00")
    )
    # River 1 (labels 1 and 0) has a rate of 0.75, river 2 (1 and 0) the overall one of 0.5.
    assert (found["rows"], found["baseline_roc_auc"]) == (4, 0.5)


def test_a_challenger_is_compared_with_it(rivers: Rivers) -> None:
    data = trained(rivers)
    apart = data.frame.with_columns(pl.col("asked_at") + pl.duration(days=pl.int_range(pl.len())))
    data = replace(data, frame=apart)
    question, changed, check = against_champion(rivers.settings, batch_problem(), data, loaded(rivers, "new"), "old")
    assert (question, changed, check.name) == ("refresh", (), "not_worse_than_champion")
    assert "old: difference of log_loss" in check.detail and check.detail.endswith(f"{apart.height} rows")
    package(rivers, "twin", bias=-25.0)  # the same model as `old`, of today
    assert against_champion(rivers.settings, batch_problem(), data, loaded(rivers, "twin"), "old")[2].value == 0.0


def test_it_is_gone_back_to_promoted_and_imported(rivers: Rivers, tmp_path: Path) -> None:
    settings = rivers.settings
    champion.promote(settings, "new", NOW, Path("new.json"))
    assert champion.roll_back(settings, NOW)["version"] == "old"
    champion.promote(settings, "new", NOW, Path("new.json"))
    done = promote_by_hand(settings, batch_problem(), "old", "it was better", NOW)
    assert (done.version, done.previous) == ("old", "new") and done.smoke_difference < 1e-6
    others = Rivers(tmp_path / "there")
    theirs = as_before(package(others, "theirs"))
    assert import_package(settings, batch_problem(), theirs, NOW).version == "theirs"


@pytest.mark.parametrize("name", [FEATURES, EXPLAINER, BASELINE])
def test_a_package_without_a_file_that_every_one_has_today_is_refused_in_plain_words(tmp_path: Path, name: str) -> None:
    folder = write_package(tmp_path, "older")
    checksums = json.loads((folder / CHECKSUMS).read_text())
    del checksums[name]
    (folder / CHECKSUMS).write_text(json.dumps(checksums))
    (folder / name).unlink()
    with pytest.raises(HindcastError) as raised:
        ServedModel.load(folder)
    assert str(raised.value) == (
        f"The model package {folder} was made without {name}, which every package has today, so it can't be used any "
        "more; train again."
    )


def test_an_evaluation_of_before_is_judged_but_not_packaged(settings: Settings) -> None:
    problem, data, candidates = trained_parcels()
    report = evaluate(problem, data.frame, candidates).report
    before = json.loads(json.dumps(report))
    (before["label_rate"],) = before.pop("history")
    for entry in before["candidates"]:
        entry["threshold"] = entry.pop("calibration")["threshold"]
        for window in ("validation", "test"):
            entry[window]["confusion"] = entry[window].pop("details")
    chosen = next(each for each in before["candidates"] if each["chosen"])
    now = next(each for each in report["candidates"] if each["chosen"])
    assert bar_checks(problem, chosen, before["baselines"]) == bar_checks(problem, now, report["baselines"])
    assert check_models(problem, before["candidates"]) == check_models(problem, report["candidates"])
    with pytest.raises(HindcastError, match="The evaluation of parcels is of an earlier version"):
        build(settings, parcels_problem(), data, candidates, before, ["parcel_id"])
