"""Contributions: what Shapley's definition says, for trees and linear models, adding up to what the graph says."""

import functools
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

from hindcast.package.build import export, find_explainer
from hindcast.package.explain import SCORE_LIMIT, Explainer, Explanation, from_bytes, to_bytes
from hindcast.package.explain_linear import LinearExplainer
from hindcast.package.explain_trees import NODE, TreeExplainer
from hindcast.package.model import Feature, ServedModel
from hindcast.tasks import find_task
from hindcast.training.search import Fitted, fit
from hindcast.training.training_data import split_rows
from tests.fitted_tasks import MODELS, FittedModel, hard_rows
from tests.made_up_problem import parcels_problem, trained_parcels
from tests.tiny_model import SIGNATURE_OF_PARCELS, write_package

GAP = math.nan


@pytest.fixture(scope="module", params=MODELS, ids=" ".join)
def model(request: pytest.FixtureRequest) -> FittedModel:
    return FittedModel.of(*request.param)


def tree(*nodes: tuple[int, float, bool, int, int, float, int]) -> Any:
    return np.array(list(nodes), NODE)


def leaf(value: float, cover: int) -> tuple[int, float, bool, int, int, float, int]:
    return 0, 0.0, False, 0, 0, value, cover


def shapley(features: int, value: Callable[[frozenset[int]], Any]) -> list[Any]:
    """By the definition: over all sets of the other features."""
    value = functools.cache(value)
    found: list[Any] = []
    for feature in range(features):
        others = [each for each in range(features) if each != feature]
        total: Any = 0.0
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


def scores_of(raw: Any, scores: int) -> Any:
    """A model's raw scores as the task's. Of two classes, the first's is left out, as it is 0."""
    found = np.concatenate([np.zeros(scores - len(raw)), raw])
    return found - found.mean() if scores > 1 else found


def knowing_trees(model: FittedModel) -> Callable[[Any, frozenset[int]], Any]:
    """What scikit-learn's own trees say of a row of which only some features are known."""
    boosting = model.fitted.estimator[-1]
    names = {"feature_idx": "feature", "num_threshold": "threshold", "missing_go_to_left": "missing_left"}
    trees = [
        [rename_fields(each.nodes, names | {"count": "cover"}) for each in trees]
        for trees in zip(*boosting._predictors, strict=True)
    ]
    assert max(each["depth"].max() for each in trees[0]) > 4  # so a feature is split on again below itself

    def value(row: Any, known: frozenset[int]) -> Any:
        added = [sum(expected(nodes, 0, row, known) for nodes in each) for each in trees]
        return scores_of(boosting._baseline_prediction.ravel() + added, len(model.task.scores))

    return value


def knowing_columns(model: FittedModel) -> Callable[[Any, frozenset[int]], Any]:
    """What scikit-learn's own pipeline says on average of the training rows, with the known features of a row."""
    pipeline = model.fitted.estimator
    raw_scores = getattr(pipeline, "decision_function", pipeline.predict)

    def value(row: Any, known: frozenset[int]) -> Any:
        rows = model.matrix.astype(np.float64)
        rows[:, list(known)] = row[list(known)]
        return scores_of(raw_scores(rows).reshape(len(rows), -1).mean(axis=0), len(model.task.scores))

    return value


def test_contributions_of_fitted_models_are_shapleys_of_scikit_learns_own(model: FittedModel) -> None:
    rows, explainer = hard_rows()[-18:], model.explainer
    value = knowing_trees(model) if explainer.method == TreeExplainer.method else knowing_columns(model)
    found = explainer.contributions(rows)
    assert found.shape == (18, 4, len(model.task.scores))
    assert np.abs(found).max() > 0.3
    limit = 1e-6 * max(1.0, np.abs(found).max())  # the graph's leaves are float32
    np.testing.assert_allclose(explainer.base, value(rows[0], frozenset()), rtol=0, atol=limit)
    for row, ours in zip(rows, found, strict=True):
        np.testing.assert_allclose(ours, shapley(4, functools.partial(value, row)), rtol=0, atol=limit)


def test_of_several_scores_each_is_explained_less_their_mean() -> None:
    # Left of 0 and right of it, where half of the rows are each.
    parts = [
        TreeExplainer(start, tree((0, 0.0, True, 1, 2, 0.0, 2), leaf(left, 1), leaf(right, 1)))
        for start, left, right in [(1, 0, 2), (2, 0, 6), (6, 0, 4)]
    ]
    left = np.array([[-1.0]], np.float32)
    explainer = Explainer(parts, 3)  # knowing nothing 2, 5 and 8, left 1, 2 and 6
    np.testing.assert_allclose(explainer.base, [-3, 0, 3], atol=1e-12)
    np.testing.assert_allclose(explainer.contributions(left), [[[1, -1, 0]]], atol=1e-12)
    two = Explainer(parts[:1], 2)  # 2 and 1 for the second class against the first
    np.testing.assert_allclose(two.base, [-1, 1], atol=1e-12)
    np.testing.assert_allclose(two.contributions(left), [[[0.5, -0.5]]], atol=1e-12)
    alone = Explainer(parts[:1], 1)
    np.testing.assert_allclose(alone.base, [2], atol=1e-12)
    np.testing.assert_allclose(alone.contributions(left), [[[-1]]], atol=1e-12)


def test_numbers_marks_and_categories_of_a_linear_model_worked_out_by_hand() -> None:
    features = (Feature("weight", "numeric"), Feature("kind", "categorical", ("bag", "box")))
    matrix = np.array([[1, 0], [2, 1], [3, GAP], [GAP, 1]], np.float32)
    candidate = parcels_problem().candidates[0]
    pipeline = fit(find_task("binary"), candidate, {}, features, matrix, np.array([0, 1, 0, 1]), 7)
    # Weight on its scale, mark of its gap, kind missing, bag, box.
    pipeline[-1].coef_[:] = [[2, 3, 10, 20, 30]]
    pipeline[-1].intercept_[:] = 1
    (explainer,) = LinearExplainer.per_score(pipeline, [0, 2], matrix)
    scale = math.sqrt(0.5)  # of 1, 2, 3 and the median 2
    kinds = (10 + 20 + 30 + 30) / 4
    assert explainer.base == pytest.approx(1 + 0 + 3 / 4 + kinds)
    found = explainer.contributions(np.array([[3, 1], [GAP, GAP], [0, 0]], np.float32))
    expected = [[2 / scale - 3 / 4, 30 - kinds], [3 * 3 / 4, 10 - kinds], [-4 / scale - 3 / 4, 20 - kinds]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_base_and_contributions_add_up_to_what_the_graph_says(model: FittedModel) -> None:
    rows, task = hard_rows(), model.task
    explanation, said = model.served.explain(rows), model.served.predict(rows)
    assert explanation.contributions.shape == (*rows.shape, len(task.scores))
    np.testing.assert_array_equal(explanation.predictions, said)
    scores = explanation.base + explanation.contributions.sum(axis=1)
    np.testing.assert_array_equal(explanation.scores, scores)
    # Far from 0, float32 predictions tell less of the scores; and no value on a scale is below 0.
    near = (np.abs(scores).max(axis=1) < 3) & (said[:, 0] > 0)
    assert near.sum() > 25
    np.testing.assert_allclose(scores[near], task.raw_scores(said)[near], rtol=0, atol=SCORE_LIMIT / 10)
    assert 0 < explanation.difference < SCORE_LIMIT
    assert scores.std(axis=0).min() > 0.3
    nothing = model.served.explain(rows[:0])
    assert (nothing.contributions.shape, nothing.difference) == ((0, 4, len(task.scores)), 0.0)


def test_a_value_on_a_threshold_goes_the_graphs_way() -> None:
    # Between two neighbours among float32 numbers there is none: the graph's threshold is the upper one, and what is
    # equal to it goes left there, but right in scikit-learn.
    lower, upper = np.float32(1 + 2**-23), np.float32(1 + 2**-22)
    matrix = np.repeat(np.array([[lower], [upper]]), 100, axis=0)
    labels = np.tile([0, 0, 0, 1], 50)
    labels[100:] = 1 - labels[100:]
    features = (Feature("weight", "numeric"),)
    boosting = parcels_problem().candidates[1]
    estimator = fit(find_task("binary"), boosting, {"max_iter": 5}, features, matrix, labels, 7)
    assert np.ptp(estimator.decision_function(matrix)) > 0.5
    content = to_bytes(Explainer.of(estimator, [0], matrix, 1))
    graph = export(find_task("binary"), Fitted("boosting", boosting.model, {}, (), estimator, 0.0), features)
    explanation = ServedModel(Path(), SIGNATURE_OF_PARCELS, {"version": "v1"}, graph, content).explain(matrix)
    assert np.ptp(explanation.predictions) == np.ptp(explanation.contributions) == 0
    assert explanation.difference < SCORE_LIMIT / 10


def test_the_difference_is_in_log_odds_as_far_as_a_probability_can_tell() -> None:
    base, contributions = np.array([-1.0]), np.array([[[1.5], [-0.5]], [[1.0], [1.0]]])
    explanation = Explanation(find_task("binary"), base, contributions, np.array([[0.5], [0.75]]))
    np.testing.assert_allclose(explanation.scores, [[0.0], [1.0]])
    assert explanation.difference == pytest.approx(math.log(0.75 / 0.25) - 1.0)
    sure = np.array([[[20.0]], [[-20.0]]]), np.array([[1.0], [0.0]])
    assert Explanation(find_task("binary"), np.zeros(1), *sure).difference == 0
    assert Explanation(find_task("binary"), np.zeros(1), -sure[0], sure[1]).difference == pytest.approx(
        2 * math.log(999)
    )


def test_the_difference_between_classes_is_that_of_logarithms_of_probabilities_less_their_mean() -> None:
    task = find_task("multiclass", ("a", "b", "c"))

    def difference(scores: list[float], said: list[float]) -> float:
        return Explanation(task, np.zeros(3), np.array([[scores]]), np.array([said])).difference

    equal = [1 / 3, 1 / 3, 1 / 3]
    assert difference([7, 7, 7], equal) == pytest.approx(0, abs=1e-12)
    assert difference([7, 7, 7.3], equal) == pytest.approx(0.2)  # 7.3 less the mean of 7.1
    assert difference([0, 0, -100], [0.5, 0.5, 0]) == difference([0, 0, -1e4], [0.5, 0.5, 0]) == pytest.approx(0)
    assert difference([100, 0, 0], [0, 0, 1]) == pytest.approx(math.log(1e9))
    two = find_task("multiclass", ("a", "b"))  # each is 1 less the other: as small as binary's
    sure = Explanation(two, np.zeros(2), np.array([[[10.0, -10.0]]]), np.array([[1.0, 0.0]]))
    assert sure.difference == pytest.approx(0, abs=1e-8)


def test_the_difference_of_values_is_relative_to_the_largest_and_on_the_models_scale() -> None:
    def difference(scale: str | None, scores: list[float], values: list[float]) -> float:
        said = np.array([[value, math.nan, math.nan] for value in values])
        task, added = find_task("regression", scale=scale), np.array(scores)[:, None, None]
        return Explanation(task, np.zeros(1), added, said).difference

    assert difference(None, [0.5, 0.1], [0.25, 0.1]) == pytest.approx(0.25)
    assert difference(None, [1.5, -200.0], [0.5, -200.0]) == pytest.approx(1 / 200)
    assert difference("log1p", [math.log(21)], [19.0]) == pytest.approx(math.log(21 / 20) / math.log(20))
    assert difference("log1p", [-3.0], [0.0]) == 0  # a value below 0 is served as 0


def test_equal_explainers_are_equal_bytes_without_a_time_or_a_pickle(model: FittedModel) -> None:
    row = hard_rows()[:1]
    explainer = model.explainer
    content = to_bytes(explainer)
    assert content == to_bytes(replace(model).explainer)
    read = from_bytes(content)
    assert read.method == explainer.method
    np.testing.assert_array_equal(read.base, explainer.base)
    np.testing.assert_array_equal(read.contributions(row), explainer.contributions(row))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        entries = {(entry.date_time, entry.compress_type) for entry in file.infolist()}
        assert entries == {((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert all(not array.dtype.hasobject for array in arrays.values())


@pytest.mark.parametrize("family", ["logistic_regression", "hist_gradient_boosting"])
def test_a_file_of_one_part_whose_arrays_have_no_number_is_read(family: str) -> None:
    explainer = FittedModel.of("binary", family).explainer
    file = io.BytesIO()
    np.savez(file, **explainer.parts[0].arrays)
    read = from_bytes(file.getvalue())
    np.testing.assert_array_equal(read.base, explainer.base)
    np.testing.assert_array_equal(read.contributions(hard_rows()), explainer.contributions(hard_rows()))


def test_a_package_explains_rows_by_what_it_was_trained_on(tmp_path: Path) -> None:
    problem, data, candidates = trained_parcels()
    matrix = split_rows(problem, data.frame, candidates.features, "train").matrix
    for fitted in candidates.fitted:
        explainer = find_explainer(problem, data.frame, fitted, candidates.features)
        scores = fitted.estimator.decision_function(matrix)
        assert explainer.base == pytest.approx(scores.mean(), abs=1e-5)  # what a row is worth on average
    explained = ServedModel.load(write_package(tmp_path, "v1", bias=0.5))
    explanation = explained.explain(explained.matrix({"weight": [2.0, None], "kind": ["box", "bag"]}))
    np.testing.assert_array_equal(explanation.base, [0.5])
    np.testing.assert_array_equal(explanation.contributions, [[[2], [0]], [[0], [0]]])
    assert explanation.difference < 1e-6
