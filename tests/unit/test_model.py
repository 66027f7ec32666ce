"""Encoding of features, and loading of packages that are whole or damaged."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.package.model import MODEL, SAMPLE, Feature, ServedModel, Signature, encode, unknown_categories
from hindcast.training.training_data import columns
from tests.tiny_model import SIGNATURE_OF_PARCELS, probability, write_package

FEATURES = (Feature("weight", "numeric"), Feature("kind", "categorical", ("bag", "box")))
NAN = float("nan")


def test_numbers_stay_and_categories_become_their_codes() -> None:
    matrix = encode({"kind": ["box", "bag", None, "crate"], "weight": [1.5, None, 2, 0.1]}, FEATURES)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array([[1.5, 1], [NAN, 0], [2, NAN], [0.1, NAN]], dtype=np.float32))


def test_what_is_no_finite_float32_is_missing() -> None:
    matrix = encode({"weight": [float("inf"), -1e39, NAN, True], "kind": ["bag"] * 4}, FEATURES)
    np.testing.assert_array_equal(matrix[:, 0], np.array([NAN, NAN, NAN, 1], dtype=np.float32))


def test_a_frame_and_lists_are_encoded_alike() -> None:
    frame = pl.DataFrame({"weight": [1, None, 3], "kind": ["box", None, "crate"], "more": [0, 0, 0]})
    lists = {"weight": [1, None, 3], "kind": ["box", None, "crate"]}
    np.testing.assert_array_equal(encode(columns(frame, FEATURES), FEATURES), encode(lists, FEATURES))


def test_only_a_category_that_is_there_can_be_unknown() -> None:
    values = {"weight": [0.0] * 4, "kind": ["crate", None, NAN, "bag"]}
    assert unknown_categories(values, FEATURES) == [["kind"], [], [], []]


def test_a_missing_feature_and_a_text_for_a_number_are_named() -> None:
    with pytest.raises(HindcastError, match="weren't given: weight"):
        encode({"kind": ["bag"]}, FEATURES)
    with pytest.raises(HindcastError, match="Feature weight must be 1 numbers"):
        encode({"kind": ["bag"], "weight": ["heavy"]}, FEATURES)


def test_a_signature_survives_its_file() -> None:
    assert Signature.from_json(SIGNATURE_OF_PARCELS.to_json()) == SIGNATURE_OF_PARCELS


def test_a_package_predicts_and_passes_its_smoke_test(tmp_path: Path) -> None:
    model = ServedModel.load(write_package(tmp_path, "v1", bias=0.5))
    said = model.predict(model.matrix({"weight": [1.0, None], "kind": ["box", "bag"]}))
    assert said == pytest.approx(np.array([[probability(0.5, 1.0)], [probability(0.5, 0.0)]]), abs=1e-6)
    assert model.smoke_test() < 1e-6
    assert model.version == "v1"
    assert model.predict(model.matrix({"weight": [], "kind": []})).shape == (0, 1)


def test_a_package_keeps_its_version_when_its_folder_is_copied(tmp_path: Path) -> None:
    write_package(tmp_path, "v1").rename(tmp_path / "elsewhere")
    assert ServedModel.load(tmp_path / "elsewhere").version == "v1"


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    changed, lost = write_package(tmp_path, "changed"), write_package(tmp_path, "lost")
    (changed / MODEL).write_bytes((changed / MODEL).read_bytes()[:-1])
    (lost / SAMPLE).unlink()
    with pytest.raises(HindcastError, match=r"changed/model\.onnx isn't what was packaged"):
        ServedModel.load(changed)
    with pytest.raises(HindcastError, match=r"lost has lost sample\.json"):
        ServedModel.load(lost)
    with pytest.raises(HindcastError, match="is no model package"):
        ServedModel.load(tmp_path / "never")
