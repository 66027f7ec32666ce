"""What predictions say of performance without labels, what they promise, and how far they move, worked out by hand."""

import numpy as np
import pytest

from hindcast.monitoring.comparing import TOLERANCE
from hindcast.tasks import find_task
from hindcast.tasks.binary import estimated_performance

BINARY = find_task("binary")
SKIES = find_task("multiclass", ("clear", "rain", "storm"))
NUMBER = find_task("regression")


def test_estimate_of_two_rows_by_hand() -> None:
    found = estimated_performance(np.array([0.2, 0.8]), threshold=0.5)
    assert found["log_loss"] == pytest.approx(-0.2 * np.log(0.2) - 0.8 * np.log(0.8))
    assert found["accuracy"] == pytest.approx(0.8)
    # Weights of ones (0.2, 0.8) and zeros (0.8, 0.2): 0.2 * 0.4 + 0.8 * (0.8 + 0.1)
    assert found["roc_auc"] == pytest.approx(0.8)


def test_estimate_on_calibrated_scores_is_close_to_the_realised() -> None:
    random = np.random.default_rng(11)
    probability = random.beta(1.2, 3.0, size=20_000)
    label = (random.uniform(size=20_000) < probability).astype(np.int64)
    found, realised = estimated_performance(probability, 0.4), BINARY.measure(label, probability[:, None])
    assert found["log_loss"] == pytest.approx(realised["log_loss"], abs=0.01)
    assert found["roc_auc"] == pytest.approx(realised["roc_auc"], abs=0.01)
    assert found["accuracy"] == pytest.approx(np.mean((probability >= 0.4) == label), abs=0.01)


def test_estimate_where_one_label_is_certain() -> None:
    found = estimated_performance(np.zeros(3), 0.5)
    assert np.isnan(found["roc_auc"])
    assert found["log_loss"] == pytest.approx(0.0, abs=1e-9)


def test_a_probability_of_0_or_1_costs_nothing_for_certain() -> None:
    assert estimated_performance(np.array([1.0, 1.0]), 0.5)["log_loss"] == pytest.approx(0.0, abs=1e-9)
    assert estimated_performance(np.array([0.5, 0.4]), 0.5)["accuracy"] == pytest.approx((0.5 + 0.6) / 2)


def test_estimate_of_several_classes_by_hand() -> None:
    found = SKIES.estimate(np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]), {})
    # The first row costs half of log 2 and half of log 4.
    assert found == {"log_loss": pytest.approx(0.75 * np.log(2)), "accuracy": 0.75}


def test_only_an_interval_promises_something_and_both_its_ends_belong_to_it() -> None:
    labels = np.array([1.0, 3.0, 3.1, 0.9])
    said = np.tile([2.0, 1.0, 3.0], (4, 1))
    assert NUMBER.promises(labels, said, {"coverage": 0.8}) == {"coverage": (0.5, 0.8)}
    assert NUMBER.promises(labels, said, {}) == {}
    assert NUMBER.estimate(said, {"coverage": 0.8}) == {"coverage": 0.8}
    assert BINARY.promises(np.array([1]), np.array([[0.5]]), {"threshold": 0.5}) == {}
    assert SKIES.promises(np.array([1]), np.array([[0.2, 0.3, 0.5]]), {}) == {}


def test_values_lie_as_far_apart_as_the_scale_they_were_fitted_on_says() -> None:
    one, other = np.array([[0.7]]), np.array([[0.2]])
    assert BINARY.distance(one, other, 1.0) == pytest.approx(np.array([[0.5]]))
    one, other = np.array([[30.0, 20.0, 40.0]]), np.array([[31.0, 20.0, 45.0]])
    assert NUMBER.distance(one, other, 100.0) == pytest.approx(np.array([[0.01, 0.0, 0.05]]))
    counts, largest = find_task("regression", scale="log1p"), np.expm1(10.0)
    assert counts.distance(np.expm1(one / 10), np.expm1(other / 10), largest) == pytest.approx(
        np.array([[0.01, 0.0, 0.05]])
    )
    assert counts.distance(np.array([[-1.0]]), np.array([[1.0]]), 0.0) == pytest.approx(2 * np.log(2))


@pytest.mark.parametrize("scale", [None, "log1p"])
def test_one_row_and_many_are_predicted_alike_within_the_tolerance_of_parity(scale: str | None) -> None:
    """A linear model's sums over one row are rounded otherwise than over many: values, and labels, up to 100,000."""
    import onnxruntime
    from skl2onnx import to_onnx
    from sklearn.linear_model import Ridge

    task, random = find_task("regression", scale=scale), np.random.default_rng(0)
    matrix = random.normal(size=(1000, 60)).astype(np.float32)
    labels = np.expm1(np.maximum(matrix[:, :10].sum(axis=1) * 0.6 + 4 + random.normal(size=1000) / 2, 0))
    graph = to_onnx(Ridge().fit(matrix, task.target(labels)), matrix[:1])
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    def predict(rows: np.ndarray) -> np.ndarray:
        return task.read_graph(session.run(None, {session.get_inputs()[0].name: rows})[-1])[:, :1]

    single = np.concatenate([predict(matrix[row : row + 1]) for row in range(len(matrix))])
    assert task.distance(predict(matrix), single, task.parity_scale(labels)).max() < TOLERANCE / 2


def test_a_prediction_moves_as_far_as_its_probability_its_farthest_class_or_its_value() -> None:
    assert BINARY.change(np.array([[0.7], [0.1]]), np.array([[0.2], [0.4]])) == pytest.approx([-0.5, 0.3])
    before, after = np.array([[0.2, 0.3, 0.5]]), np.array([[0.3, 0.5, 0.2]])
    assert SKIES.change(before, after) == pytest.approx([-0.3])
    before, after = np.array([[2.0, 1.0, 3.0]]), np.array([[4.0, 2.0, 9.0]])
    assert NUMBER.change(before, after) == pytest.approx([2.0])  # whatever its interval does
