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
from hindcast.tasks import find_task
from hindcast.tasks.task import Predictions, Task

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
INPUT = "features"
"""Name of the ONNX graph's input, float32 (n, features). Its last output is float32 (n, k), as `Task.read_graph` takes
it."""
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
        task: `binary`, `multiclass` or `regression`.
        entity: Name of what one prediction is about.
        entity_key: Column that names it.
        feature_service: Where the features are read from.
        join_keys: What a request must name for the features to be found, in the store's order.
        request_fields: What a request must bring besides, because no table holds it.
        features: In the order of the matrix' columns.
        label: Column that is predicted.
        label_description: What its 1 means.
        history: Mean over the training window of the label (its rate, where it is 0 or 1), or one per class.
        calibration: What was chosen on the validation window, as `Task.calibrate` gives it.
        classes: Of a multiclass label, in the order of their codes.
        scale: On which a regression's model is fitted.
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
    history: tuple[float, ...]
    calibration: dict[str, Any]
    classes: tuple[str, ...] = ()
    scale: str | None = None

    @classmethod
    def from_json(cls, text: str | bytes) -> "Signature":
        content: dict[str, Any] = json.loads(text)
        if "threshold" in content:  # packaged when all problems were binary
            content |= {"history": [content.pop("label_rate")], "calibration": {"threshold": content.pop("threshold")}}
        content["features"] = tuple(
            Feature(each["name"], each["kind"], tuple(each["categories"])) for each in content["features"]
        )
        content["join_keys"] = tuple(content["join_keys"])
        for name in ("request_fields", "history", "classes"):
            content[name] = tuple(content.get(name, ()))
        return cls(**content)

    def to_json(self) -> str:
        return to_json(asdict(self), sort_keys=True)

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features]

    @cached_property
    def kind(self) -> Task:
        """The task, with what it must know of the label."""
        return find_task(self.task, self.classes, self.scale)


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
        explainer: bytes = b"",
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
        self._output: str = self._session.get_outputs()[-1].name  # after a classifier's decisions, what it rests on

    @classmethod
    def load(cls, folder: Path | str) -> "ServedModel":
        """Reads a package.

        Raises:
            HindcastError: There is no package, a file of it is missing, or a file isn't what was packaged.
        """
        files = read_package(Path(folder))
        signature, metadata = Signature.from_json(files[SIGNATURE]), json.loads(files[METADATA])
        return cls(Path(folder), signature, metadata, files[MODEL], files[EXPLAINER])

    def matrix(self, values: Mapping[str, Column]) -> Matrix:
        """As `encode`, for this model's features."""
        return encode(values, self.signature.features)

    def unknown_categories(self, values: Mapping[str, Column]) -> list[list[str]]:
        """As the function of this name, for this model's features."""
        return unknown_categories(values, self.signature.features)

    @property
    def task(self) -> Task:
        """What its predictions mean."""
        return self.signature.kind

    def predict(self, matrix: Matrix) -> Predictions:
        """What the model says of rows, intervals included.

        Args:
            matrix: As `matrix` makes it, shape (n, features).

        Returns:
            Shape (n, outputs), columns as `Task.outputs` names them.
        """
        task = self.task
        if not len(matrix):
            return np.empty((0, len(task.outputs)))
        raw = self._session.run([self._output], {INPUT: matrix})[0]
        return task.complete(task.read_graph(raw), self.signature.calibration)

    def explain(self, matrix: Matrix) -> Explanation:
        """What each feature contributes to the raw scores.

        Base and contributions of a row add up to what its prediction says of them within `SCORE_LIMIT`.

        Args:
            matrix: As `matrix` makes it, shape (n, features).
        """
        explainer = self._explainer
        return Explanation(self.task, explainer.base, explainer.contributions(matrix), self.predict(matrix))

    @cached_property
    def _explainer(self) -> Explainer:
        """Read when first asked for: a new champion should serve at once."""
        return from_bytes(self._explainer_file)

    def smoke_test(self) -> float:
        """Predicts the rows that were stored with the package; returns the largest difference from what was stored, in
        units of `Task.parity_scale`.

        Raises:
            HindcastError: The package has no stored rows.
        """
        sample = require_json(self.folder / SAMPLE)
        before = sample.get("probabilities")  # of a package that was made when all problems were binary
        expected = np.array(sample["predictions"] if before is None else [[each] for each in before])
        if not len(expected):
            raise HindcastError(f"{self.folder / SAMPLE} holds no rows to test with; package the model again.")
        found = self.predict(self.matrix(sample["values"]))
        return float(np.abs(found - expected).max()) / sample.get("scale", 1.0)


_NEEDED = (MODEL, EXPLAINER, SIGNATURE, METADATA, SAMPLE, FEATURES, BASELINE)
"""Of every package. A bento's copy leaves out `REFERENCE`, which only monitoring reads."""


def read_package(folder: Path) -> dict[str, bytes]:
    """The files of a package by name, each of the checksum it was packaged with.

    Raises:
        HindcastError: There is no package, it was made without a file that is needed, it has lost one, or a file isn't
            what was packaged.
    """
    checksums = read_json(folder / CHECKSUMS)
    if checksums is None:
        raise HindcastError(f"{folder} is no model package: it has no {CHECKSUMS}.")
    files = {}
    if absent := [name for name in _NEEDED if name not in checksums]:
        raise HindcastError(
            f"The model package {folder} was made without {', '.join(absent)}, which every package has today, so it "
            "can't be used any more; train again."
        )
    for name in sorted(checksums):
        if not (folder / name).is_file():
            raise HindcastError(f"The model package {folder} has lost {name}; package the model again.")
        files[name] = (folder / name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != checksums[name]:
            raise HindcastError(f"{folder / name} isn't what was packaged (checksum); package the model again.")
    return files
