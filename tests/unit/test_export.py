"""The exported graph says what scikit-learn says, for every task and family, with gaps and unknown kinds."""

from typing import Any

import numpy as np
import pytest

from hindcast.package.model import PARITY_LIMIT, encode
from tests.fitted_tasks import FEATURES, MODELS, FittedModel, hard_rows, parcels

LOSSES = [{"loss": "absolute_error"}, {"loss": "quantile", "quantile": 0.9}]
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *((name, family, {}) for name, family in MODELS),
    *((name, "hist_gradient_boosting", loss) for name in ("value", "logarithm") for loss in LOSSES),
    ("three classes", "hist_gradient_boosting", {"max_iter": 50, "learning_rate": 0.3}),
    ("three classes", "logistic_regression", {"fit_intercept": False}),
    ("value", "ridge", {"fit_intercept": False}),
]


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: "-".join([case[0], case[1], *map(str, case[2].values())])
)
def model(request: pytest.FixtureRequest) -> FittedModel:
    name, family, parameters = request.param
    return FittedModel.of(name, family, **parameters)


def largest_difference(model: FittedModel, matrix: Any) -> float:
    """Between the graph and scikit-learn, in units of the task's scale."""
    fitted = model.task.predict(model.fitted.estimator, matrix, model.fitted.second)
    served = model.served.predict(matrix)
    assert served.shape == (len(matrix), len(model.task.outputs))
    return float(np.abs(served - fitted).max()) / model.task.parity_scale(model.labels)


def test_the_graph_says_what_scikit_learn_says(model: FittedModel) -> None:
    rows = hard_rows()
    assert largest_difference(model, rows) <= PARITY_LIMIT
    assert np.ptp(model.served.predict(rows)[:, 0]) > 0.5


def test_the_graph_agrees_on_rows_of_which_nothing_is_known(model: FittedModel) -> None:
    assert largest_difference(model, np.full((3, len(FEATURES)), np.nan, np.float32)) <= PARITY_LIMIT


def test_the_graph_agrees_on_unknown_kinds(model: FittedModel) -> None:
    unknown = parcels(50, seed=4) | {"kind": ["pallet", "barrel", ""] * 16 + ["Box", "crate "]}
    matrix = encode(unknown, FEATURES)
    assert np.isnan(matrix[:, 2]).all()
    assert largest_difference(model, matrix) <= PARITY_LIMIT
