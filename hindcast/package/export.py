"""Turns a fitted candidate into one ONNX graph. How the graph is read is in `model`."""

import warnings
from collections.abc import Sequence
from typing import Any

from hindcast.package.model import INPUT, Feature
from hindcast.tasks.task import Task
from hindcast.training.search import Fitted


def export(task: Task, fitted: Fitted, features: Sequence[Feature]) -> bytes:
    """The fitted pipeline, and the second model beside it, as one graph, preprocessing included: float32 (n, features)
    to what `Task.read_graph` takes."""
    graph = _converted(fitted.estimator, fitted.name, len(features), dict(task.graph_options))
    if fitted.second is not None:
        graph = _beside(graph, _converted(fitted.second, fitted.name, len(features), {}))
    # The converter has them in the order of a set, which isn't the same in every process.
    graph.opset_import.sort(key=lambda opset: opset.domain)
    found: bytes = graph.SerializeToString()
    return found


def _converted(estimator: Any, name: str, width: int, options: dict[str, Any]) -> Any:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what the converter itself asks of ONNX
        return to_onnx(
            estimator,
            name=name,
            initial_types=[(INPUT, FloatTensorType([None, width]))],
            options={id(estimator): options} if options else None,
        )


def _beside(first: Any, second: Any) -> Any:
    """One graph of two with the same input: the columns of the first's output (n, k), then those of the second's."""
    from onnx import TensorProto, compose, helper

    one, other = first.graph, compose.add_prefix_graph(second.graph, "second_", rename_inputs=False)
    outputs = [one.output[-1].name, other.output[-1].name]
    one.node.extend([*other.node, helper.make_node("Concat", outputs, ["both"], axis=1)])
    one.initializer.extend(other.initializer)
    del one.output[:]
    one.output.append(helper.make_tensor_value_info("both", TensorProto.FLOAT, [None, None]))
    there = {opset.domain for opset in first.opset_import}
    first.opset_import.extend(opset for opset in second.opset_import if opset.domain not in there)
    return first
