"""A made-up model package for tests, made without training. Its score is bias + weight of the parcel.

Binary: the probability is the score's sigmoid. Multiclass: the raw score of the class of code j is j times the score.
Regression: the value is the score, on the label's scale, in an interval from 1 below to 2 above.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper

from hindcast.package.explain import Explainer, to_bytes
from hindcast.package.explain_linear import LinearExplainer
from hindcast.package.model import (
    BASELINE,
    CARD,
    CHECKSUMS,
    EXPLAINER,
    FEATURES,
    INPUT,
    METADATA,
    METRICS,
    MODEL,
    REFERENCE,
    SAMPLE,
    SIGNATURE,
    Feature,
    ServedModel,
    Signature,
)

SIGNATURE_OF_PARCELS = Signature(
    problem="parcels",
    task="binary",
    entity="parcel",
    entity_key="parcel",
    feature_service="parcels",
    join_keys=("depot", "parcel"),
    request_fields=(),
    features=(Feature("weight", "numeric"), Feature("kind", "categorical", ("bag", "box"))),
    label="is_late",
    label_description="Came late.",
    history=(0.2,),
    calibration={"threshold": 0.5},
)
OUTPUT = "probabilities"
MADE = {"feature_definition": "f", "training_declaration": "d", "training_code": "c"}
"""What a package's metadata says of how it was made."""
_CALIBRATIONS: dict[str, dict[str, Any]] = {
    "multiclass": {},
    "regression": {"coverage": 0.9, "interval": {"centres": [0.0], "lower": [-1.0], "upper": [2.0]}},
}


def probability(bias: float, weight: float) -> float:
    """What the binary model says of a parcel."""
    return float(1 / (1 + np.exp(-(bias + weight))))


def prediction(signature: Signature, bias: float, weight: float) -> list[float]:
    """What the model of a signature says of a parcel, in the order of its task's outputs."""
    score, task = bias + weight, signature.kind
    raw = {
        "binary": [1 - probability(bias, weight), probability(bias, weight)],
        "multiclass": [float(np.exp(code * score)) for code in range(len(signature.classes))],
        "regression": [score],
    }[signature.task]
    said = task.read_graph(np.array([raw]) / (sum(raw) if signature.classes else 1))
    found: list[float] = task.complete(said, signature.calibration)[0].tolist()
    return found


def write_package(
    models: Path,
    version: str,
    bias: float = 0.0,
    signature: Signature = SIGNATURE_OF_PARCELS,
    more: Mapping[str, bytes] | None = None,
    task: str = "binary",
    classes: tuple[str, ...] = (),
    scale: str | None = None,
    **metadata: Any,
) -> Path:
    """Writes a whole package; a missing weight counts as 0, and contributes 0.

    `more` are other contents of its files, `metadata` what else is known of it. Its registry of features is empty.
    With another task than binary, the signature is that task's.
    """
    if task != "binary":
        calibration = _CALIBRATIONS[task]
        signature = replace(signature, task=task, classes=classes, scale=scale, calibration=calibration)
    folder = models / version
    folder.mkdir(parents=True)
    sample: dict[str, Any] = {feature.name: [None, None] for feature in signature.features}
    sample |= {signature.features[0].name: [1.0, None], "kind": ["box", "bag"]}
    files = {
        MODEL: _graph(bias, signature),
        SIGNATURE: signature.to_json().encode(),
        METRICS: json.dumps({"test": {"roc_auc": 0.75}}).encode(),
        METADATA: json.dumps(
            {"version": version, "snapshot": 7, "as_of": "2024-05-01T00:00:00+00:00"} | MADE | metadata
        ).encode(),
        SAMPLE: json.dumps(
            {"values": sample, "predictions": [prediction(signature, bias, weight) for weight in (1.0, 0.0)]}
        ).encode(),
        CARD: b"# Tiny\n",
        EXPLAINER: _explainer(bias, signature),
        FEATURES: b"",
        REFERENCE: _reference(signature),
        BASELINE: json.dumps({"columns": [], "overall": list(signature.history), "groups": []}).encode(),
    }
    files |= more or {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (folder / CHECKSUMS).write_text(json.dumps(checksums))
    ServedModel.load(folder)
    return folder


def as_before(folder: Path) -> Path:
    """Turns a binary package into the form that packages had when all problems were binary."""
    signature, sample, history = (json.loads((folder / name).read_text()) for name in (SIGNATURE, SAMPLE, BASELINE))
    for name in ("classes", "scale"):
        del signature[name]
    (signature["label_rate"],) = signature.pop("history")
    signature |= signature.pop("calibration")
    sample = {"values": sample["values"], "probabilities": [each for (each,) in sample["predictions"]]}
    rates = [[*group, rate] for group, (rate,) in history["groups"]]
    explainer = io.BytesIO()
    with np.load(folder / EXPLAINER) as now:
        np.savez(explainer, **{name.removeprefix("0."): now[name] for name in now if name != "scores"})
    baseline = {"columns": history["columns"], "overall": history["overall"][0], "rates": rates}
    contents = {
        SIGNATURE: json.dumps(signature).encode(),
        SAMPLE: json.dumps(sample).encode(),
        BASELINE: json.dumps(baseline).encode(),
        EXPLAINER: explainer.getvalue(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    checksums = json.loads((folder / CHECKSUMS).read_text())
    checksums |= {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (folder / CHECKSUMS).write_text(json.dumps(checksums))
    return folder


def _reference(signature: Signature) -> bytes:
    """Two rows of the test window, nothing known of them."""
    kinds = {"numeric": pl.Float64, "categorical": pl.String}
    columns = {feature.name: pl.Series([None, None], dtype=kinds[feature.kind]) for feature in signature.features}
    times = pl.Series(["2024-04-01", "2024-04-02"]).str.to_datetime(time_unit="us")
    file = io.BytesIO()
    pl.DataFrame({"prediction_time": times, "label": [0, 1]} | columns).write_parquet(file)
    return file.getvalue()


def _explainer(bias: float, signature: Signature) -> bytes:
    """The first feature contributes its value, as if its mean were 0; the others nothing."""
    sizes = [len(feature.categories) for feature in signature.features]
    nothing, slopes = np.zeros(len(sizes)), np.eye(len(sizes))[0]
    times, levels = range(len(signature.classes)) if signature.classes else [1], np.zeros(sum(sizes))
    scores = [LinearExplainer(each * bias, each * slopes, nothing, nothing, levels, np.array(sizes)) for each in times]
    return to_bytes(Explainer(scores, len(signature.kind.scores)))


def _graph(bias: float, signature: Signature) -> bytes:
    features, classes = len(signature.features), len(signature.classes)
    weights = np.zeros((features, 1), dtype=np.float32)
    weights[0] = 1.0
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("bias", TensorProto.FLOAT, [], [bias]),
        helper.make_tensor("codes", TensorProto.FLOAT, [1, classes], range(classes)),
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.flatten()),
    ]
    nodes = [
        helper.make_node("IsNaN", [INPUT], ["missing"]),
        helper.make_node("Where", ["missing", "zero", INPUT], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["score"]),
    ]
    nodes += {
        "binary": [
            helper.make_node("Sigmoid", ["score"], ["positive"]),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], [OUTPUT], axis=1),
        ],
        "multiclass": [
            helper.make_node("Mul", ["score", "codes"], ["scores"]),
            helper.make_node("Softmax", ["scores"], [OUTPUT], axis=1),
        ],
        "regression": [helper.make_node("Identity", ["score"], [OUTPUT])],
    }[signature.task]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", "k"])],
        [constant for constant in constants if constant.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
