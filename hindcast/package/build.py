"""Builds a package from a fitted candidate: graph, signature, metrics, model card, checksums. It holds no pickle.

How a package is read is in `model`; whether it may be used is decided in `gate`.
"""

import hashlib
import importlib.metadata
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hindcast.artefacts import read_json, to_json, write_json
from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.package.card import card
from hindcast.package.explain import SCORE_LIMIT, Explainer, to_bytes
from hindcast.package.export import export
from hindcast.package.model import (
    BASELINE,
    CARD,
    CHECKSUMS,
    EXPLAINER,
    FEATURES,
    METADATA,
    METRICS,
    MODEL,
    PARITY_LIMIT,
    REFERENCE,
    SAMPLE,
    SIGNATURE,
    Feature,
    Matrix,
    ServedModel,
    Signature,
    read_package,
)
from hindcast.package.reference import History, reference_file
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.tasks import problem_task
from hindcast.tasks.task import Predictions
from hindcast.training.search import Candidates, Fitted, spread
from hindcast.training.training_data import TrainingData, columns, split_rows

_SAMPLE_ROWS, _EXPLAINED_ROWS = 20, 1000
_LIBRARIES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Package:
    """A package on disk.

    Attributes:
        version: Its name: problem, as-of day, and 8 hex digits of its content. The same data and code give the
            same name in any home; the snapshot's number, which differs between homes, has no part in it.
        folder: Where it lies.
        parity: `rows` and `max_difference` between the graph and scikit-learn on the test window, in units of
            `Task.parity_scale`.
    """

    version: str
    folder: Path
    parity: dict[str, Any]


def build(
    settings: Settings,
    problem: Problem,
    data: TrainingData,
    candidates: Candidates,
    report: dict[str, Any],
    join_keys: Sequence[str],
    request_fields: Sequence[str] = (),
    feature_definition: str | None = None,
    registry: bytes = b"",
    lake: str | None = None,
    sql: Sequence[str] = (),
) -> Package:
    """Packages the chosen candidate.

    The folder is whole or absent. Where a whole one of this content is there already, it stays.

    Args:
        settings: Where packages lie.
        problem: What is predicted.
        data: The training set, read at the candidates' snapshot.
        candidates: The fitted ones.
        report: Of the evaluation, which chose one.
        join_keys: What a request must name for the features to be found.
        request_fields: What a request must bring besides.
        feature_definition: Short name of what the features are taken from (`hindcast.features.definition`).
        registry: Feast's, which defines them: a package goes on reading them as it was trained on them.
        lake: Identity of the lake that the training set was read from.
        sql: Versions of the SQL that the training set was made by.

    Raises:
        HindcastError: The evaluation was made before problems had tasks.
    """
    if "history" not in report:
        raise HindcastError(f"The evaluation of {problem.name} is of an earlier version: run `hindcast run`.")
    chosen = next(each for each in report["candidates"] if each["chosen"])
    fitted = next(each for each in candidates.fitted if each.name == chosen["name"])
    signature = Signature(
        problem=problem.name,
        task=problem.task,
        entity=problem.entity.name,
        entity_key=problem.entity.key,
        feature_service=problem.feature_service,
        join_keys=tuple(join_keys),
        request_fields=tuple(request_fields),
        features=candidates.features,
        label=problem.label.column,
        label_description=problem.label.description,
        history=tuple(report["history"]),
        calibration=chosen["calibration"],
        classes=problem.label.classes,
        scale=problem.label.scale,
    )
    graph = export(signature.kind, fitted, candidates.features)
    test = split_rows(problem, data.frame, candidates.features, "test")
    matrix, scale = test.matrix, signature.kind.parity_scale(test.labels)
    parity = measure_parity(graph, signature, fitted, matrix, scale)
    explainer = find_explainer(problem, data.frame, fitted, candidates.features)
    numbers = {
        "candidate": chosen,
        "baselines": report["baselines"],
        "slices": report["slices"],
        "rows": report["rows"],
        "history": report["history"],
        "training_hash": candidates.training_hash,
        "parity": parity,
        "explanation": measure_explanation(graph, signature, explainer, matrix),
    }
    # All that an answer depends on. The explainer holds what the graph doesn't: how many rows came through a node.
    content = {
        MODEL: graph,
        EXPLAINER: to_bytes(explainer),
        SIGNATURE: signature.to_json().encode(),
        METRICS: _json(numbers),
    }
    version = name_version(problem.name, data.as_of, content)
    metadata = {
        "version": version,
        "problem": problem.name,
        "candidate": fitted.name,
        "model": fitted.model,
        "parameters": fitted.parameters,
        "as_of": data.as_of.isoformat(),
        "windows": {split: [start.isoformat(), end.isoformat()] for split, (start, end) in data.windows.items()},
        "lake": lake,
        "snapshot": candidates.snapshot,
        "training_hash": candidates.training_hash,
        "feature_definition": feature_definition,
        "training_declaration": training_declaration(problem),
        "training_code": fingerprint(settings.training_code, sql),
        "code_version": code_version(settings.root),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
    files = content | {
        METADATA: _json(metadata),
        SAMPLE: _json(sample(problem, data.frame, signature, fitted, matrix, scale)),
        CARD: card(problem, signature, metadata, numbers).encode(),
        # Made from the training set, which is named already.
        REFERENCE: reference_file(problem, data.frame, candidates.features),
        FEATURES: registry,
        BASELINE: History.of(problem, data.frame.filter(pl.col("split") == "train")).to_json().encode(),
    }
    folder = write(settings, version, files)
    write_json(settings.challenger_file, {"version": version})
    return Package(version, folder, parity)


def request_columns(settings: Settings, service: str) -> tuple[list[str], list[str]]:
    """What a request to a feature service must bring: the join keys, and what no table holds."""
    from hindcast.features.feature_service import find_service, join_keys, open_store, service_views
    from hindcast.features.on_demand import request_fields

    store = open_store(settings)
    views, on_demand = service_views(store, find_service(store, service))
    return join_keys(views), [field for view in on_demand for field in request_fields(view)]


def challenger_folder(settings: Settings) -> Path:
    """The package that was made last.

    Raises:
        HindcastError: None has been made in this home yet.
    """
    made = read_json(settings.challenger_file)
    if made is None:
        raise HindcastError(f"No package in {settings.home} yet: materialise `model_package` first.")
    return settings.models / made["version"]


def measure_parity(
    graph: bytes, signature: Signature, fitted: Fitted, matrix: Matrix, scale: float = 1.0
) -> dict[str, Any]:
    """Largest difference between the graph and scikit-learn over all rows of a matrix (n, features), divided by a
    scale."""
    served = ServedModel(Path(), signature, {"version": "not packaged yet"}, graph).predict(matrix)
    difference = float(np.abs(served - predicted(signature, fitted, matrix)).max()) / scale
    return {"rows": len(matrix), "max_difference": float(f"{difference:.3g}"), "limit": PARITY_LIMIT}


def find_explainer(problem: Problem, frame: pl.DataFrame, fitted: Fitted, features: Sequence[Feature]) -> Explainer:
    """What a package needs to explain a candidate that was trained on this training set."""
    matrix = split_rows(problem, frame, features, "train").matrix
    sizes = [len(feature.categories) for feature in features]
    return Explainer.of(fitted.estimator, sizes, matrix, len(problem_task(problem).scores))


def measure_explanation(graph: bytes, signature: Signature, explainer: Explainer, matrix: Matrix) -> dict[str, Any]:
    """By how much contributions miss the graph's predictions, at most, on rows spread over a matrix (n, features)."""
    rows = matrix[spread(np.arange(len(matrix)), _EXPLAINED_ROWS)]
    model = ServedModel(Path(), signature, {"version": "not packaged yet"}, graph, to_bytes(explainer))
    most = float(f"{model.explain(rows).difference:.3g}")
    return {"method": explainer.method, "rows": len(rows), "max_difference": most, "limit": SCORE_LIMIT}


def predicted(signature: Signature, fitted: Fitted, matrix: Matrix) -> Predictions:
    """What scikit-learn says of rows (n, features), intervals included, shape (n, outputs)."""
    return signature.kind.complete(
        signature.kind.predict(fitted.estimator, matrix, fitted.second), signature.calibration
    )


def sample(
    problem: Problem, frame: pl.DataFrame, signature: Signature, fitted: Fitted, matrix: Matrix, scale: float
) -> dict[str, Any]:
    """A few test rows, spread over the window, as a service would get them, and what scikit-learn says of them.

    Args:
        problem: Names the columns.
        frame: The training set.
        signature: Of the package.
        fitted: The candidate.
        matrix: All of the test window, shape (n, features).
        scale: By which a service divides differences.
    """
    part = frame.filter(pl.col("split") == "test").sort(problem.prediction_time.column, problem.entity.key)
    rows = spread(np.arange(part.height), _SAMPLE_ROWS)
    values = {
        name: [None if value != value else value for value in list(column)]
        for name, column in columns(part[rows], signature.features).items()
    }
    return {"values": values, "predictions": predicted(signature, fitted, matrix[rows]).tolist(), "scale": scale}


def name_version(problem: str, as_of: datetime, content: dict[str, bytes]) -> str:
    """`<problem>-<as-of day>-<8 hex digits of the content>`."""
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(hashlib.sha256(content[name]).digest())
    return f"{problem}-{as_of:%Y%m%d}-{digest.hexdigest()[:8]}"


def write(settings: Settings, version: str, files: dict[str, bytes]) -> Path:
    """Writes a folder of files with their checksums, whole or not at all."""
    folder = settings.models / version
    if folder.exists():
        if _is_whole(folder, files):
            return folder
        # What is there goes aside and is written again.
        settings.scratch.mkdir(parents=True, exist_ok=True)
        folder.rename(tempfile.mkdtemp(dir=settings.scratch, prefix=f"{version}."))
    settings.models.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=settings.models, prefix=f".{version}."))
    try:
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        for name, data in (files | {CHECKSUMS: _json(checksums)}).items():
            (made / name).write_bytes(data)
        made.chmod(0o755)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _is_whole(folder: Path, files: Iterable[str]) -> bool:
    """Whether a package is undamaged and has all of these files."""
    try:
        return read_package(folder).keys() >= set(files)
    except HindcastError:
        return False


def training_declaration(problem: Problem) -> str:
    """Short name of what the problem file says about how a model is made: equal for equal declarations.

    What a search drew has no part in it, nor have descriptions.
    """
    declared = problem.model_dump_json(
        include={
            "task": True,
            "labeled_table": True,
            "split_table": True,
            "entity": {"key"},
            "prediction_time": {"column"},
            "label": {"column", "known_at", "matures_within", "classes", "scale"},
            "splits": True,
            "feature_service": True,
            "metrics": {"primary", "threshold", "coverage"},
            "candidates": True,
            "budget": True,
        }
    )
    return fingerprint(values=[declared])


def code_version(root: Path) -> str:
    """The checkout's commit, with a plus where files differ from it; the library's version where there is no git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=root, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return importlib.metadata.version("hindcast")
    return said.stdout.strip()


def _json(content: Any) -> bytes:
    return to_json(content, sort_keys=True).encode()
