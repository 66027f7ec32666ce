"""Contributions: what Shapley's definition says, for trees and linear models, adding up to what the graph says."""

import io
import itertools
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.recfunctions import rename_fields

from hindcast.errors import HindcastError
from hindcast.package.build import export, find_explainer
from hindcast.package.explain import (
    NODE,
    SCORE_LIMIT,
    Explanation,
    LinearExplainer,
    TreeExplainer,
    from_bytes,
    to_bytes,
)
from hindcast.package.model import Feature, Matrix, ServedModel
from hindcast.problem import Problem
from hindcast.training.search import Candidates, Fitted, fit
from hindcast.training.training_data import TrainingData, split_rows
from tests.made_up_problem import parcels_problem, trained_parcels
from tests.tiny_model import SIGNATURE_OF_PARCELS, write_package

Trained = tuple[Problem, TrainingData, Candidates]
GAP = math.nan


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_parcels()


def rows_with_gaps(trained: Trained) -> Matrix:
    """The test window, and rows with one or more gaps. Column 2 is a category, whose gap is also the unknown one."""
    problem, data, candidates = trained
    matrix = split_rows(problem, data.frame, candidates.features, "test").matrix
    gaps = matrix[:16].copy()
    for row, columns in enumerate(itertools.product([False, True], repeat=4)):
        gaps[row, list(columns)] = np.nan
    return np.vstack([matrix, gaps])


def served(trained: Trained, fitted: Fitted) -> ServedModel:
    problem, data, candidates = trained
    explainer = find_explainer(problem, data.frame, fitted, candidates.features)
    signature = replace(SIGNATURE_OF_PARCELS, features=candidates.features)
    return ServedModel(Path(), signature, {"version": "v1"}, export(fitted, candidates.features), to_bytes(explainer))


def tree(*nodes: tuple[int, float, bool, int, int, float, int]) -> Any:
    return np.array(list(nodes), NODE)


def leaf(value: float, cover: int) -> tuple[int, float, bool, int, int, float, int]:
    return 0, 0.0, False, 0, 0, value, cover


def shapley(features: int, value: Callable[[frozenset[int]], float]) -> list[float]:
    """By the definition: over all sets of the other features."""
    found = []
    for feature in range(features):
        others = [each for each in range(features) if each != feature]
        total = 0.0
        for size in range(features):
            weight = math.factorial(size) * math.factorial(features - size - 1) / math.factorial(features)
            for known in map(frozenset, itertools.combinations(others, size)):
                total += weight * (value(known | {feature}) - value(known))
        found.append(total)
    return found


def expected(nodes: Any, at: int, row: Any, known: frozenset[int]) -> float:
    """What a tree says of a row of which only some features are known."""
    node = nodes[at]
    left, right = int(node["left"]), int(node["right"])
    if left == 0:
        return float(node["value"])
    if int(node["feature"]) in known:
        value = float(row[node["feature"]])
        goes_left = bool(node["missing_left"]) if math.isnan(value) else value <= float(node["threshold"])
        return expected(nodes, left if goes_left else right, row, known)
    ways = [float(nodes["cover"][child]) * expected(nodes, child, row, known) for child in (left, right)]
    return sum(ways) / float(node["cover"])


def random_tree(random: np.random.Generator, features: int, offset: int) -> list[tuple[Any, ...]]:
    """A tree of up to 5 splits on the way to a leaf, its thresholds among -1, 0 and 1, so that ways cross."""
    nodes: list[tuple[Any, ...]] = []

    def grow(cover: int, depth: int) -> int:
        at = len(nodes)
        nodes.append(())
        if cover < 2 or depth == 5 or random.random() < 0.15:
            nodes[at] = leaf(float(random.normal()), cover)
            return at
        part = int(random.integers(1, cover))
        children = [grow(part, depth + 1) + offset, grow(cover - part, depth + 1) + offset]
        split = int(random.integers(features)), float(random.integers(-1, 2)), bool(random.random() < 0.5)
        nodes[at] = (*split, *children, 0.0, cover)
        return at

    grow(1000, 0)
    return nodes


@pytest.mark.parametrize("seed", range(20))
def test_contributions_of_trees_are_shapleys_by_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    features, roots = 4, []
    nodes: list[tuple[Any, ...]] = []
    for _ in range(3):
        roots.append(len(nodes))
        nodes += random_tree(random, features, len(nodes))
    table = tree(*nodes)
    matrix = random.choice([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, GAP], (10, features)).astype(np.float32)
    explainer = TreeExplainer(0.25, table)
    found = explainer.contributions(matrix)
    for row, ours in zip(matrix, found, strict=True):

        def value(known: frozenset[int], row: Any = row) -> float:
            return sum(expected(table, root, row, known) for root in roots)

        np.testing.assert_allclose(ours, shapley(features, value), rtol=0, atol=1e-9)
        assert explainer.base == pytest.approx(0.25 + value(frozenset()), abs=1e-9)


def test_two_features_worked_out_by_hand() -> None:
    # Half of the rows go right at the first split, four fifths of those right at the second.
    table = tree((0, 0.0, True, 1, 2, 0.0, 10), leaf(1, 5), (1, 0.0, False, 3, 4, 0.0, 5), leaf(2, 1), leaf(6, 4))
    explainer = TreeExplainer(0.0, table)
    assert explainer.base == pytest.approx(0.5 * 1 + 0.5 * (0.2 * 2 + 0.8 * 6))  # 3.1
    found = explainer.contributions(np.array([[1, 1], [GAP, 1]], np.float32))
    # Knowing nothing 3.1, the first alone 5.2, the second alone 3.5, both 6; without the first one's value 1, 3.5, 1.
    assert found[0] == pytest.approx([((5.2 - 3.1) + (6 - 3.5)) / 2, ((3.5 - 3.1) + (6 - 5.2)) / 2])
    assert found[1] == pytest.approx([((1 - 3.1) + (1 - 3.5)) / 2, ((3.5 - 3.1) + (1 - 1)) / 2])


def test_a_feature_that_is_split_on_twice_is_one_player() -> None:
    table = tree((1, 0.0, False, 1, 4, 0.0, 10), (1, -1.0, True, 2, 3, 0.0, 6), leaf(1, 2), leaf(2, 4), leaf(5, 4))
    explainer = TreeExplainer(0.0, table)
    assert explainer.base == pytest.approx(0.2 * 1 + 0.4 * 2 + 0.4 * 5)  # 3
    found = explainer.contributions(np.array([[7, -2], [7, -0.5], [7, 0.5], [7, GAP]], np.float32))
    np.testing.assert_allclose(found, [[0, -2], [0, -1], [0, 2], [0, 2]], atol=1e-12)


def test_a_tree_of_one_leaf_adds_to_the_base_alone() -> None:
    explainer = TreeExplainer(0.5, tree(leaf(2, 9)))
    assert explainer.base == 2.5
    np.testing.assert_array_equal(explainer.contributions(np.ones((2, 3), np.float32)), np.zeros((2, 3)))


def test_thirty_features_on_one_way_share_its_worth_equally() -> None:
    # Only who goes left thirty times comes to the leaf of 1; at each split, half of the rows do.
    depth = 30
    nodes = [(split, 0.0, False, split + 1, depth + 1 + split, 0.0, 2 ** (depth - split)) for split in range(depth)]
    nodes += [leaf(1, 1), *(leaf(0, 2 ** (depth - 1 - split)) for split in range(depth))]
    found = TreeExplainer(0.0, tree(*nodes)).contributions(np.full((1, depth), -1, np.float32))
    np.testing.assert_allclose(found, np.full((1, depth), (1 - 2.0**-depth) / depth), rtol=1e-12)


def test_contributions_of_fitted_trees_are_shapleys_of_scikit_learns_own(trained: Trained) -> None:
    problem, data, candidates = trained
    fitted = next(each for each in candidates.fitted if each.model == "hist_gradient_boosting")
    boosting = fitted.estimator[-1]
    explainer = find_explainer(problem, data.frame, fitted, candidates.features)
    rows = rows_with_gaps(trained)[-20:]
    names = {"feature_idx": "feature", "num_threshold": "threshold", "missing_go_to_left": "missing_left"}
    trees = [rename_fields(predictor.nodes, names | {"count": "cover"}) for (predictor,) in boosting._predictors]
    for row, ours in zip(rows, explainer.contributions(rows), strict=True):

        def value(known: frozenset[int], row: Any = row) -> float:
            return sum(expected(nodes, 0, row, known) for nodes in trees)

        np.testing.assert_allclose(ours, shapley(4, value), rtol=0, atol=1e-6)  # the graph's leaves are float32
    assert np.abs(explainer.contributions(rows)).max() > 0.1


def test_numbers_marks_and_categories_of_a_linear_model_worked_out_by_hand() -> None:
    features = (Feature("weight", "numeric"), Feature("kind", "categorical", ("bag", "box")))
    matrix = np.array([[1, 0], [2, 1], [3, GAP], [GAP, 1]], np.float32)
    candidate = parcels_problem().candidates[0]
    pipeline = fit(candidate, {}, features, matrix, np.array([0, 1, 0, 1]), 7)
    # Weight on its scale, mark of its gap, kind missing, bag, box.
    pipeline[-1].coef_[:] = [[2, 3, 10, 20, 30]]
    pipeline[-1].intercept_[:] = 1
    explainer = LinearExplainer.of(pipeline, [0, 2], matrix)
    scale = math.sqrt(0.5)  # of 1, 2, 3 and the median 2
    kinds = (10 + 20 + 30 + 30) / 4
    assert explainer.base == pytest.approx(1 + 0 + 3 / 4 + kinds)
    found = explainer.contributions(np.array([[3, 1], [GAP, GAP], [0, 0]], np.float32))
    expected = [[2 / scale - 3 / 4, 30 - kinds], [3 * 3 / 4, 10 - kinds], [-4 / scale - 3 / 4, 20 - kinds]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_base_and_contributions_add_up_to_what_the_graph_says(trained: Trained) -> None:
    rows = rows_with_gaps(trained)
    for fitted in trained[2].fitted:
        model = served(trained, fitted)
        explanation = model.explain(rows)
        said = model.predict(rows)
        assert explanation.contributions.shape == rows.shape
        np.testing.assert_array_equal(explanation.probabilities, said)
        scores = explanation.base + explanation.contributions.sum(axis=1)
        np.testing.assert_allclose(scores, np.log(said / (1 - said)), rtol=0, atol=SCORE_LIMIT / 10)
        assert explanation.difference < SCORE_LIMIT / 10
        assert scores.std() > 0.5
        assert model.explain(rows[:0]).contributions.shape == (0, 4)


def test_a_value_on_a_threshold_goes_the_graphs_way() -> None:
    # Between two neighbours among float32 numbers there is none: the graph's threshold is the upper one, and what is
    # equal to it goes left there, but right in scikit-learn.
    lower, upper = np.float32(1 + 2**-23), np.float32(1 + 2**-22)
    matrix = np.repeat(np.array([[lower], [upper]]), 100, axis=0)
    labels = np.tile([0, 0, 0, 1], 50)
    labels[100:] = 1 - labels[100:]
    features = (Feature("weight", "numeric"),)
    boosting = parcels_problem().candidates[1]
    estimator = fit(boosting, {"max_iter": 5}, features, matrix, labels, 7)
    assert np.ptp(estimator.decision_function(matrix)) > 0.5
    content = to_bytes(TreeExplainer.of(estimator[-1]))
    graph = export(Fitted("boosting", boosting.model, {}, (), estimator, 0.0), features)
    explanation = ServedModel(Path(), SIGNATURE_OF_PARCELS, {"version": "v1"}, graph, content).explain(matrix)
    assert np.ptp(explanation.probabilities) == np.ptp(explanation.contributions) == 0
    assert explanation.difference < SCORE_LIMIT / 10


def test_the_difference_is_in_log_odds_as_far_as_a_probability_can_tell() -> None:
    explanation = Explanation(-1.0, np.array([[1.5, -0.5], [1.0, 1.0]]), np.array([0.5, 0.75]))
    assert explanation.scores == pytest.approx([0.0, 1.0])
    assert explanation.difference == pytest.approx(math.log(0.75 / 0.25) - 1.0)
    sure = np.array([[20.0], [-20.0]]), np.array([1.0, 0.0])
    assert Explanation(0.0, *sure).difference == 0
    assert Explanation(0.0, -sure[0], sure[1]).difference == pytest.approx(2 * math.log(999))


def test_equal_explainers_are_equal_bytes_without_a_time_or_a_pickle(trained: Trained) -> None:
    problem, data, candidates = trained
    row = rows_with_gaps(trained)[:1]
    for fitted in candidates.fitted:
        explainer = find_explainer(problem, data.frame, fitted, candidates.features)
        content = to_bytes(explainer)
        assert content == to_bytes(find_explainer(problem, data.frame, fitted, candidates.features))
        read = from_bytes(content)
        assert (read.method, read.base) == (explainer.method, explainer.base)
        np.testing.assert_array_equal(read.contributions(row), explainer.contributions(row))
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            entries = {(entry.date_time, entry.compress_type) for entry in file.infolist()}
            assert entries == {((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)}
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            assert all(not array.dtype.hasobject for array in arrays.values())


def test_a_package_of_before_serves_and_says_that_it_cannot_explain(tmp_path: Path) -> None:
    model = ServedModel.load(write_package(tmp_path, "v1", explained=False))
    assert model.smoke_test() < 1e-6
    with pytest.raises(
        HindcastError, match=r"v1 can't be explained: it has no explainer\.npz; package the model again"
    ):
        model.explain(model.matrix({"weight": [1.0], "kind": ["box"]}))
    explained = ServedModel.load(write_package(tmp_path, "v2", bias=0.5))
    explanation = explained.explain(explained.matrix({"weight": [2.0, None], "kind": ["box", "bag"]}))
    assert explanation.base == 0.5
    np.testing.assert_array_equal(explanation.contributions, [[2, 0], [0, 0]])
    assert explanation.difference < 1e-6
