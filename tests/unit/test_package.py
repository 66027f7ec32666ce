"""Packages: the graph says what scikit-learn says, names follow from content, folders are whole."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.evaluation.evaluate import evaluate
from hindcast.package.build import (
    Package,
    build,
    challenger_folder,
    code_version,
    export,
    measure_parity,
    name_version,
    training_declaration,
)
from hindcast.package.explain import SCORE_LIMIT
from hindcast.package.model import (
    BASELINE,
    CARD,
    CHECKSUMS,
    EXPLAINER,
    FEATURES,
    METRICS,
    MODEL,
    REFERENCE,
    ServedModel,
)
from hindcast.package.reference import History, read_reference
from hindcast.problem import Problem
from hindcast.serving.bento import _copy_package
from hindcast.settings import Settings
from hindcast.training.search import Candidates
from hindcast.training.training_data import TrainingData, columns, split_rows
from tests.made_up_problem import parcels_problem, trained_parcels

Trained = tuple[Problem, TrainingData, Candidates]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_parcels()


def packaged(settings: Settings, trained: Trained, **more: Any) -> Package:
    problem, data, candidates = trained
    report = evaluate(problem, data.frame, candidates).report
    keys = ["depot", "parcel_id"]
    return build(settings, problem, data, candidates, report, keys, ["weight"], "abcd", lake="this lake", **more)


def test_every_graph_says_what_scikit_learn_says_gaps_and_unknowns_included(
    settings: Settings, trained: Trained
) -> None:
    problem, data, candidates = trained
    signature = ServedModel.load(packaged(settings, trained).folder).signature
    matrix = split_rows(problem, data.frame, candidates.features, "test").matrix
    gaps = np.vstack([matrix, np.full((1, matrix.shape[1]), np.nan, dtype=np.float32)])
    for fitted in candidates.fitted:
        found = measure_parity(export(signature.kind, fitted, candidates.features), signature, fitted, gaps)
        assert found["rows"] == len(gaps)
        assert found["max_difference"] < 1e-6


def test_a_package_answers_from_plain_values_as_scikit_learn_does_from_the_training_set(
    settings: Settings, trained: Trained
) -> None:
    problem, data, candidates = trained
    model = ServedModel.load(packaged(settings, trained).folder)
    fitted = next(each for each in candidates.fitted if each.name == model.metadata["candidate"])
    test = data.frame.filter(pl.col("split") == "test").sort("asked_at", "parcel_id")
    said = model.predict(model.matrix({name: test[name].to_list() for name in model.signature.names}))
    matrix = split_rows(problem, data.frame, candidates.features, "test").matrix
    expected = fitted.estimator.predict_proba(matrix)[:, 1:]
    np.testing.assert_allclose(said, expected, atol=1e-6)
    np.testing.assert_array_equal(
        model.matrix({name: test[name].to_list() for name in model.signature.names}),
        model.matrix(columns(test, model.signature.features)),
    )
    assert model.smoke_test() < 1e-6


def test_a_package_says_what_it_is(settings: Settings, trained: Trained) -> None:
    built = packaged(settings, trained)
    model = ServedModel.load(built.folder)
    assert model.signature.names == ["weight", "distance", "kind", "fragile"]
    assert model.signature.features[2].categories == ("bag", "box", "crate")
    assert (model.signature.join_keys, model.signature.request_fields) == (("depot", "parcel_id"), ("weight",))
    assert (model.metadata["snapshot"], model.metadata["as_of"]) == (7, "2024-04-10T00:00:00+00:00")
    assert (model.metadata["feature_definition"], model.metadata["lake"]) == ("abcd", "this lake")
    assert model.version == built.version == built.folder.name
    assert model.version.startswith("parcels-20240410-")
    assert challenger_folder(settings) == built.folder
    card = (built.folder / CARD).read_text()
    for words in ("Will the parcel come late?", "Lake snapshot 7", "| depot | east |", "historic rate", "`kind`: bag"):
        assert words in card
    files = sorted(path.name for path in built.folder.iterdir())
    assert files == sorted([*json.loads((built.folder / CHECKSUMS).read_text()), CHECKSUMS])
    # Nothing runs code when it is read; of the registry, Feast does, when it computes features.
    assert {Path(name).suffix for name in files if name != FEATURES} == {".onnx", ".npz", ".json", ".md", ".parquet"}


def test_a_package_explains_itself_and_says_how_well(settings: Settings, trained: Trained) -> None:
    folder = packaged(settings, trained).folder
    measured = json.loads((folder / METRICS).read_text())["explanation"]
    problem, data, candidates = trained
    matrix = split_rows(problem, data.frame, candidates.features, "test").matrix
    explanation = ServedModel.load(folder).explain(matrix)
    assert (measured["rows"], measured["limit"]) == (len(matrix), SCORE_LIMIT)  # all are fewer than a sample may be
    assert measured["max_difference"] == pytest.approx(explanation.difference, rel=0.01)
    assert 0 < measured["max_difference"] < SCORE_LIMIT
    assert f"within {measured['max_difference']:.1e} on {len(matrix)} of them" in (folder / CARD).read_text()


def test_the_name_follows_from_content_not_from_home_or_snapshot(tmp_path: Path, trained: Trained) -> None:
    problem, data, candidates = trained
    root = Path(__file__).parents[2]
    one = packaged(Settings(root, tmp_path / "one"), trained)
    later = problem, replace(data, snapshot=99), replace(candidates, snapshot=99)
    other = packaged(Settings(root, tmp_path / "other"), later)
    assert one.version == other.version
    assert ServedModel.load(other.folder).metadata["snapshot"] == 99
    assert (one.folder / EXPLAINER).read_bytes() == (other.folder / EXPLAINER).read_bytes()
    as_of = datetime(2024, 4, 10, tzinfo=UTC)
    assert name_version("p", as_of, {"a": b"1"}) != name_version("p", as_of, {"a": b"2"})


def test_a_graph_is_the_same_byte_for_byte_in_every_process(tmp_path: Path, trained: Trained) -> None:
    _, _, candidates = trained
    (tmp_path / "candidates").write_bytes(pickle.dumps(candidates))
    command = (
        "import hashlib, pathlib, pickle, sys\n"
        "from hindcast.package.build import export; from hindcast.tasks import find_task\n"
        "made = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "graphs = [export(find_task('binary'), fitted, made.features) for fitted in made.fitted]\n"
        "print([hashlib.sha256(graph).hexdigest() for graph in graphs])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", command, str(tmp_path / "candidates")],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_building_again_keeps_a_whole_package_and_replaces_a_damaged_one(settings: Settings, trained: Trained) -> None:
    built = packaged(settings, trained)
    inode = built.folder.stat().st_ino
    assert packaged(settings, trained).folder.stat().st_ino == inode
    (built.folder / MODEL).write_bytes(b"")
    assert packaged(settings, trained).version == built.version
    assert ServedModel.load(built.folder).smoke_test() < 1e-6
    assert [path.name for path in settings.models.iterdir()] == [built.version]


def test_without_a_package_there_is_nothing_to_judge(settings: Settings) -> None:
    with pytest.raises(HindcastError, match="No package in"):
        challenger_folder(settings)


def test_outside_of_a_checkout_the_code_version_is_the_librarys(tmp_path: Path) -> None:
    assert code_version(tmp_path)[0].isdigit()


def test_a_package_carries_what_it_is_judged_by(tmp_path: Path, trained: Trained) -> None:
    problem, data, _ = trained
    root = Path(__file__).parents[2]
    folders = [packaged(Settings(root, tmp_path / name), trained).folder for name in ("one", "other")]
    model = ServedModel.load(folders[0])
    reference = read_reference(model)
    test = data.frame.filter(pl.col("split") == "test").sort("asked_at", "parcel_id")
    assert reference.columns == ["prediction_time", "label", *model.signature.names]
    assert reference["prediction_time"].to_list() == test["asked_at"].to_list()
    assert reference["label"].to_list() == test["late"].to_list()
    assert reference["distance"].to_list() == test["distance"].to_list()
    assert reference["kind"].to_list() == test["kind"].to_list()
    assert reference["fragile"].to_list() == [float(each) for each in test["fragile"]]
    np.testing.assert_allclose(
        model.predict(model.matrix(reference.to_dict(as_series=False))),
        model.predict(model.matrix(columns(test, model.signature.features))),
    )
    train = data.frame.filter(pl.col("split") == "train")
    history = History.read(model)
    assert history.means(test).tolist() == History.of(problem, train).means(test).tolist()
    assert history.overall.tolist() == pytest.approx([train["late"].mean()]) == list(model.signature.history)
    for name in (REFERENCE, BASELINE):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
        assert name in json.loads((folders[0] / CHECKSUMS).read_text())


def test_a_package_of_before_is_made_again_with_what_it_lacks(settings: Settings, trained: Trained) -> None:
    built = packaged(settings, trained)
    checksums = json.loads((built.folder / CHECKSUMS).read_text())
    (built.folder / REFERENCE).unlink()
    del checksums[REFERENCE]
    (built.folder / CHECKSUMS).write_text(json.dumps(checksums))
    assert packaged(settings, trained).version == built.version
    assert read_reference(ServedModel.load(built.folder)).height == 541


def test_the_declaration_is_of_what_makes_a_model_and_not_of_what_was_drawn() -> None:
    declared = training_declaration(parcels_problem())
    assert training_declaration(parcels_problem(question="?", slices={"columns": []})) == declared
    metrics = {"primary": "log_loss", "bars": {"roc_auc": {"min": 0.9}}, "tolerance": 1.0, "margin": 1.0}
    assert training_declaration(parcels_problem(metrics=metrics)) == declared  # what is asked of it, not how it's made
    fewer = [{"name": "linear", "model": "logistic_regression"}]
    assert training_declaration(parcels_problem(candidates=fewer)) != declared
    assert training_declaration(parcels_problem(feature_service="others")) != declared
    assert training_declaration(parcels_problem(metrics=metrics | {"primary": "brier"})) != declared
    number, count = parcels_problem("regression"), parcels_problem("regression", "log1p")
    wider = number.model_copy(update={"metrics": number.metrics.model_copy(update={"coverage": 0.9})})
    classes = parcels_problem("multiclass").label.model_copy(update={"classes": ("early", "late")})
    fewer_classes = parcels_problem("multiclass").model_copy(update={"label": classes})
    different = (parcels_problem("multiclass"), fewer_classes, number, count, wider)
    assert len({training_declaration(each) for each in different} | {declared}) == 6
    budget = {"draws": 3, "folds": 2, "max_rows": 1000, "seed": 7}
    assert training_declaration(parcels_problem(budget=budget)) != declared


def test_the_code_that_makes_a_model_has_a_name_that_no_other_file_changes(tmp_path: Path, trained: Trained) -> None:
    def made_by(root: Path, sql: str = "1") -> str:
        folder = packaged(Settings(root, tmp_path / "home" / root.name / sql), trained, sql=[sql]).folder
        return str(ServedModel.load(folder).metadata["training_code"])

    for root in (tmp_path / "one", tmp_path / "two"):
        for name in ("hindcast/training/search.py", "hindcast/cli.py"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
    first = made_by(tmp_path / "one")
    (tmp_path / "two" / "hindcast" / "cli.py").write_text("another")
    assert made_by(tmp_path / "two") == first
    assert made_by(tmp_path / "two", sql="2") != first
    (tmp_path / "two" / "hindcast" / "training" / "search.py").write_text("another")
    shutil.rmtree(tmp_path / "home" / "two")
    assert made_by(tmp_path / "two") != first


def test_a_bentos_copy_is_whole_without_the_rows_that_only_monitoring_reads(
    settings: Settings, trained: Trained, tmp_path: Path
) -> None:
    folder = packaged(settings, trained).folder
    _copy_package(folder, tmp_path / "copy")
    assert ServedModel.load(tmp_path / "copy").smoke_test() < 1e-6
    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names - {REFERENCE}
