"""A made-up model package for tests: probability = sigmoid(bias + weight of the parcel), made without training."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from hindcast.package.explain import LinearExplainer, to_bytes
from hindcast.package.model import (
    CARD,
    CHECKSUMS,
    EXPLAINER,
    INPUT,
    METADATA,
    METRICS,
    MODEL,
    OUTPUT,
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
    label_rate=0.2,
    threshold=0.5,
)


def probability(bias: float, weight: float) -> float:
    """What the model says of a parcel."""
    return float(1 / (1 + np.exp(-(bias + weight))))


def write_package(
    models: Path,
    version: str,
    bias: float = 0.0,
    signature: Signature = SIGNATURE_OF_PARCELS,
    explained: bool = True,
    more: Mapping[str, bytes] | None = None,
    **metadata: Any,
) -> Path:
    """Writes a whole package; a missing weight counts as 0, and contributes 0.

    Without `explained` it is one of before. `more` are further files, `metadata` what else is known of it.
    """
    folder = models / version
    folder.mkdir(parents=True)
    sample: dict[str, Any] = {feature.name: [None, None] for feature in signature.features}
    sample |= {signature.features[0].name: [1.0, None], "kind": ["box", "bag"]}
    files = {
        MODEL: _graph(bias, len(signature.features)),
        SIGNATURE: signature.to_json().encode(),
        METRICS: json.dumps({"test": {"roc_auc": 0.75}}).encode(),
        METADATA: json.dumps(
            {"version": version, "snapshot": 7, "as_of": "2024-05-01T00:00:00+00:00"} | metadata
        ).encode(),
        SAMPLE: json.dumps(
            {"values": sample, "probabilities": [probability(bias, 1.0), probability(bias, 0.0)]}
        ).encode(),
        CARD: b"# Tiny\n",
    }
    files |= more or {}
    if explained:
        files[EXPLAINER] = _explainer(bias, signature)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (folder / CHECKSUMS).write_text(json.dumps(checksums))
    ServedModel.load(folder)
    return folder


def _explainer(bias: float, signature: Signature) -> bytes:
    """The first feature contributes its value, as if its mean were 0; the others nothing."""
    sizes = [len(feature.categories) for feature in signature.features]
    nothing, slopes = np.zeros(len(sizes)), np.eye(len(sizes))[0]
    return to_bytes(LinearExplainer(bias, slopes, nothing, nothing, np.zeros(sum(sizes)), np.array(sizes)))


def _graph(bias: float, features: int) -> bytes:
    weights = np.zeros((features, 1), dtype=np.float32)
    weights[0] = 1.0
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("bias", TensorProto.FLOAT, [], [bias]),
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.flatten()),
    ]
    nodes = [
        helper.make_node("IsNaN", [INPUT], ["missing"]),
        helper.make_node("Where", ["missing", "zero", INPUT], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
