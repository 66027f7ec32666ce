"""A packaged model at run time: load it, check that it is whole, encode features, predict, explain.

Needs numpy and onnxruntime alone, so that a service that carries it stays small. How a package is made is in
`package`; where feature values come from is not known here.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hindcast.artefacts import read_json, require_json, to_json
from hindcast.errors import HindcastError
from hindcast.package.explain import Explainer, Explanation, from_bytes

Matrix = NDArray[np.float32]
Column = Sequence[Any] | NDArray[Any]

MODEL, EXPLAINER, SIGNATURE, METRICS, METADATA, SAMPLE, CARD, FEATURES, REFERENCE, BASELINE, ORIGIN, CHECKSUMS = (
    "model.onnx",
    "explainer.npz",
    "signature.json",
    "metrics.json",
    "metadata.json",
    "sample.json",
    "card.md",
    "features.db",
    "reference.parquet",
    "baseline.json",
    "origin.json",
    "checksums.json",
)
INPUT, OUTPUT = "features", "probabilities"
"""Names of the ONNX graph's input, float32 (n, features), and output, float32 (n, classes)."""
PARITY_LIMIT = 1e-5
"""Largest difference between the exported graph and scikit-learn, and between a package and its stored rows."""


@dataclass(frozen=True)
class Feature:
    """One column of a model's input.

    Attributes:
        name: As the feature service names it.
        kind: A number, or one of `categories`.
        categories: In the order of their codes 0, 1, …; empty for numbers.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives. The form of `signature.json`.

    Attributes:
        problem: Name of the problem file.
        task: `binary`.
        entity: Name of what one prediction is about.
        entity_key: Column that names it.
        feature_service: Where the features are read from.
        join_keys: What a request must name for the features to be found, in the store's order.
        request_fields: What a request must bring besides, because no table holds it.
        features: In the order of the matrix' columns.
        label: Column that is predicted.
        label_description: What its 1 means.
        label_rate: Share of 1 in the training window.
        threshold: From this probability on, the decision is 1.
    """

    problem: str
    task: str
    entity: str
    entity_key: str
    feature_service: str
    join_keys: tuple[str, ...]
    request_fields: tuple[str, ...]
    features: tuple[Feature, ...]
    label: str
    label_description: str
    label_rate: float
    threshold: float

    @classmethod
    def from_json(cls, text: str | bytes) -> "Signature":
        content: dict[str, Any] = json.loads(text)
        content["features"] = tuple(
            Feature(each["name"], each["kind"], tuple(each["categories"])) for each in content["features"]
        )
        content["join_keys"] = tuple(content["join_keys"])
        content["request_fields"] = tuple(content["request_fields"])
        return cls(**content)

    def to_json(self) -> str:
        return to_json(asdict(self), sort_keys=True)

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features]


def encode(values: Mapping[str, Column], features: Sequence[Feature]) -> Matrix:
    """Packs columns into a model's input. Training and serving both come through here.

    Args:
        values: Columns of equal length n by feature name; None and NaN are missing. More columns are ignored.
        features: What the model takes.

    Returns:
        Shape (n, features), float32. NaN where a value is missing, isn't finite, or is a category that the
        model doesn't know; else the number, or the category's code.

    Raises:
        HindcastError: A column is missing or holds something that isn't a number.
    """
    absent = [feature.name for feature in features if feature.name not in values]
    if absent:
        raise HindcastError(f"The model needs features that weren't given: {', '.join(absent)}.")
    rows = len(values[features[0].name]) if features else 0
    matrix = np.empty((rows, len(features)), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what doesn't fit float32 becomes infinite, then missing
        for position, feature in enumerate(features):
            column = values[feature.name]
            if feature.kind == "categorical":
                codes = _codes(feature)
                column = [codes.get(value, np.nan) for value in column]
            try:
                matrix[:, position] = column
            except (TypeError, ValueError) as error:
                raise HindcastError(f"Feature {feature.name} must be {rows} numbers: {error}.") from error
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def unknown_categories(values: Mapping[str, Column], features: Sequence[Feature]) -> list[list[str]]:
    """Per row, the features whose category the model has never seen (and therefore takes for missing)."""
    categorical = [feature for feature in features if feature.kind == "categorical"]
    found: list[list[str]] = [[] for _ in range(len(values[features[0].name]) if features else 0)]
    for feature in categorical:
        codes = _codes(feature)
        for row, value in enumerate(values[feature.name]):
            if value is not None and value == value and value not in codes:  # NaN differs from itself
                found[row].append(feature.name)
    return found


def _codes(feature: Feature) -> dict[str, int]:
    return {category: code for code, category in enumerate(feature.categories)}


class ServedModel:
    """One package, checked and loaded. Predicting and explaining from several threads at once is safe.

    Attributes:
        version: The package's name, wherever its folder has been copied to.
        folder: Where it lies.
        signature: What it takes and gives.
        metadata: What it was made from: snapshot, as-of instant, code version, training-set hash.
    """

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        metadata: dict[str, Any],
        graph: bytes,
        explainer: bytes | None = None,
    ) -> None:
        # It reports to its maker unless told otherwise before it is loaded, wherever the package is served.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one row is too little work to share, and threads fight for the cores
        options.inter_op_num_threads = 1
        self.version: str = metadata["version"]
        self.folder = folder
        self.signature = signature
        self.metadata = metadata
        self._explainer_file = explainer
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @classmethod
    def load(cls, folder: Path | str) -> "ServedModel":
        """Reads a package.

        Raises:
            HindcastError: There is no package, a file of it is missing, or a file isn't what was packaged.
        """
        files = read_package(Path(folder))
        signature, metadata = Signature.from_json(files[SIGNATURE]), json.loads(files[METADATA])
        return cls(Path(folder), signature, metadata, files[MODEL], files.get(EXPLAINER))

    def matrix(self, values: Mapping[str, Column]) -> Matrix:
        """As `encode`, for this model's features."""
        return encode(values, self.signature.features)

    def unknown_categories(self, values: Mapping[str, Column]) -> list[list[str]]:
        """As the function of this name, for this model's features."""
        return unknown_categories(values, self.signature.features)

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Probabilities of the label 1.

        Args:
            matrix: As `matrix` makes it, shape (n, features).

        Returns:
            Shape (n,), between 0 and 1.
        """
        if not len(matrix):
            return np.empty(0)
        (probabilities,) = self._session.run([OUTPUT], {INPUT: matrix})
        return np.clip(probabilities[:, 1].astype(np.float64), 0.0, 1.0)  # float32 sums may leave it by 1e-7

    def explain(self, matrix: Matrix) -> Explanation:
        """What each feature contributes to the raw score, the log-odds of the label 1.

        Base and contributions of a row add up to the log-odds of its probability within `SCORE_LIMIT`.

        Args:
            matrix: As `matrix` makes it, shape (n, features).

        Raises:
            HindcastError: The package was made before packages could be explained.
        """
        explainer = self._explainer
        return Explanation(explainer.base, explainer.contributions(matrix), self.predict(matrix))

    @cached_property
    def _explainer(self) -> Explainer:
        """Read when first asked for: a new champion should serve at once."""
        if self._explainer_file is None:
            raise HindcastError(f"{self.version} can't be explained: it has no {EXPLAINER}; package the model again.")
        return from_bytes(self._explainer_file)

    def smoke_test(self) -> float:
        """Predicts the rows that were stored with the package; returns the largest difference from what was stored.

        Raises:
            HindcastError: The package has no stored rows.
        """
        sample = require_json(self.folder / SAMPLE)
        expected = np.array(sample["probabilities"])
        if not len(expected):
            raise HindcastError(f"{self.folder / SAMPLE} holds no rows to test with; package the model again.")
        return float(np.abs(self.predict(self.matrix(sample["values"])) - expected).max())


def read_package(folder: Path) -> dict[str, bytes]:
    """The files of a package by name, each of the checksum it was packaged with.

    Raises:
        HindcastError: There is no package, a file of it is missing, or a file isn't what was packaged.
    """
    checksums = read_json(folder / CHECKSUMS)
    if checksums is None:
        raise HindcastError(f"{folder} is no model package: it has no {CHECKSUMS}.")
    files = {}
    for name in sorted({*checksums, MODEL, SIGNATURE, METADATA}):
        if not (folder / name).is_file():
            raise HindcastError(f"The model package {folder} has lost {name}; package the model again.")
        files[name] = (folder / name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != checksums.get(name):
            raise HindcastError(f"{folder / name} isn't what was packaged (checksum); package the model again.")
    return files
