"""What each task measures, decides and says: by hand, and held to scikit-learn."""

from typing import Any

import numpy as np
import pytest

from hindcast.errors import HindcastError
from hindcast.problem import Metrics
from hindcast.tasks import find_task
from hindcast.tasks.binary import (
    best_f1_threshold,
    calibration_bins,
    calibration_error,
    choose_threshold,
    confusion,
    roc_auc,
)
from hindcast.tasks.regression import above_median

BINARY = find_task("binary")
CLASSES = find_task("multiclass", ("early", "late", "lost"))
NUMBER, COUNT = find_task("regression"), find_task("regression", scale="log1p")
ALL = (BINARY, CLASSES, NUMBER, COUNT)

LABELS = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.4, 0.4, 0.2, 0.9])


def metrics_of(**declared: Any) -> Metrics:
    return Metrics.model_validate({"primary": "log_loss", "bars": {}} | declared)


def test_a_task_is_found_by_what_is_declared() -> None:
    assert [task.name for task in ALL] == ["binary", "multiclass", "regression", "regression"]
    for name, classes, scale, said in (
        ("ranking", (), None, "There is no task 'ranking'; there are binary, multiclass, regression"),
        ("binary", ("a", "b"), None, r"label\.classes: the task binary takes none"),
        ("regression", ("a", "b"), None, r"label\.classes: the task regression takes none"),
        ("binary", (), "log1p", r"label\.scale: the task binary takes none"),
        ("multiclass", ("a", "b"), "log1p", r"label\.scale: the task multiclass takes none"),
        ("multiclass", (), None, r"label\.classes: .* two or more classes"),
        ("multiclass", ("a",), None, r"label\.classes: .* two or more classes"),
        ("multiclass", ("a", "b", "A"), None, r"label\.classes: .* differ by more than case"),
        ("regression", (), "log", r"label\.scale: the task regression knows log1p, not 'log'"),
    ):
        with pytest.raises(HindcastError, match=said):
            find_task(name, classes, scale)


def test_an_unknown_metric_and_an_unknown_family_are_named() -> None:
    with pytest.raises(HindcastError, match="'auc' for the task binary; there are roc_auc"):
        BINARY.metric("auc")
    with pytest.raises(HindcastError, match="'ridge' for the task multiclass; there are logistic_regression, hist_"):
        CLASSES.family("ridge")
    assert BINARY.metric("roc_auc").loss(0.7) == -0.7
    assert BINARY.metric("brier").loss(0.7) == 0.7


@pytest.mark.parametrize("task", ALL, ids=lambda task: f"{task.name}-{task.scale}")
def test_what_a_task_names_it_has(task: Any) -> None:
    assert {task.ordering, task.area, *task.summary_metrics} <= {*task.metrics, "label_rate"}
    assert not {"rows", "label", *task.outputs} & {*task.metrics}
    labels = task.labels(np.array(["early", "late", "lost", "late"]) if task.classes else np.array([0, 1, 1, 0]))
    said = task.from_means(task.means(labels))
    assert said.shape == (4, len(task.outputs))
    assert list(task.measure(labels, said))[: len(task.metrics) + 1] == ["rows", *task.metrics]
    assert len(task.events(labels)) == len(task.event_scores(said))
    assert task.raw_scores(said).shape == (4, len(task.scores))
    nothing = task.measure(labels[:0], said[:0])
    assert nothing.pop("rows") == 0 and set(nothing.values()) == {None}


@pytest.mark.parametrize("task", ALL, ids=lambda task: f"{task.name}-{task.scale}")
def test_losses_per_row_have_the_metric_as_their_mean(task: Any) -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, max(2, len(task.classes)), 50)
    labels = labels if task.families is BINARY.families else labels + random.random(50)
    said = random.dirichlet(np.ones(3), 50) if task.classes else random.random((50, len(task.outputs)))
    rows = {name: metric for name, metric in task.metrics.items() if metric.per_row}
    assert rows
    for metric in rows.values():
        assert metric.per_row(labels, said).shape == (50,)
        assert metric.per_row(labels, said).mean() == pytest.approx(metric.compute(labels, said))


# Binary


def test_area_under_the_curve_counts_pairs_and_half_of_ties() -> None:
    # Of the six pairs: 0.4 and 0.2 and 0.9 beat 0.1; 0.9 beats 0.4; 0.4 ties with 0.4; 0.2 loses to it.
    assert roc_auc(LABELS, PROBABILITIES) == pytest.approx(4.5 / 6)


def test_every_binary_metric_is_scikit_learns() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(1)
    probabilities = rng.random(500).round(2)  # with ties
    labels = (rng.random(500) < probabilities).astype(np.int64)
    expected = {
        "roc_auc": metrics.roc_auc_score(labels, probabilities),
        "average_precision": metrics.average_precision_score(labels, probabilities),
        "log_loss": metrics.log_loss(labels, probabilities),
        "brier": metrics.brier_score_loss(labels, probabilities),
    }
    found = BINARY.measure(labels, probabilities[:, None])
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert (found["label_rate"], found["mean_probability"]) == pytest.approx((labels.mean(), probabilities.mean()))


def test_calibration_error_of_a_constant_is_its_distance_from_the_rate() -> None:
    labels = np.array([1, 0, 0, 0])
    assert calibration_bins(labels, np.full(4, 0.4)) == [(4, pytest.approx(0.4), 0.25)]
    assert calibration_error(labels, np.full(4, 0.4)) == pytest.approx(0.15)


def test_calibration_error_weighs_bins_by_their_rows() -> None:
    # 30 rows said 0.2 of which 0.1 came, 10 rows said 0.9 of which 1.0 came.
    probabilities = np.repeat([0.2, 0.9], [30, 10])
    labels = np.concatenate([np.repeat([1, 0], [3, 27]), np.ones(10, dtype=int)])
    assert calibration_error(labels, probabilities) == pytest.approx(0.75 * 0.1 + 0.25 * 0.1)


def test_confusion_counts_the_threshold_itself_as_one() -> None:
    found = confusion(LABELS, PROBABILITIES, 0.4)
    assert [found[k] for k in ("true_positive", "false_positive", "false_negative", "true_negative")] == [2, 1, 1, 1]
    assert (found["precision"], found["recall"], found["accuracy"]) == pytest.approx((2 / 3, 2 / 3, 3 / 5))
    said, calibration = PROBABILITIES[:, None], {"threshold": 0.4}
    assert BINARY.decide(said, calibration).tolist() == [0, 1, 1, 0, 1]  # type: ignore[union-attr]
    details = BINARY.details(LABELS, said, calibration)
    assert {name: details[name] for name in found} == found
    assert [each["rows"] for each in details["calibration"]] == [1, 1, 2, 1]
    assert BINARY.explain_details(details) == (
        "From 0.400 on, the decision is 1: so 2 of 3 with label 1 are decided, and 1 of the others."
    )


def test_the_best_threshold_lies_between_two_probabilities() -> None:
    # From 0.2 on, F1 is 2·3 / (4 + 3); from 0.4 on 2·2 / (3 + 3); from 0.9 on 2 / (1 + 3); for all 6 / (5 + 3).
    assert best_f1_threshold(LABELS, PROBABILITIES) == pytest.approx(0.15)


def test_a_threshold_may_be_the_base_rate_or_a_number() -> None:
    labels, said = np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert np.sum(said >= choose_threshold("base_rate", labels, said)) == 1
    assert choose_threshold(0.7, labels, said) == 0.7
    assert choose_threshold("best_f1", labels, said) == pytest.approx(0.35)
    for declared, chosen in ((None, 0.35), (0.7, 0.7)):
        assert BINARY.calibrate(metrics_of(threshold=declared), labels, said[:, None]) == {"threshold": chosen}


def test_what_one_label_leaves_undefined_is_none() -> None:
    found = BINARY.measure(np.zeros(3, dtype=int), np.array([[0.1], [0.2], [0.3]]))
    assert found["roc_auc"] is None and found["average_precision"] is None
    assert found["brier"] == pytest.approx((0.01 + 0.04 + 0.09) / 3)
    assert BINARY.measure(np.array([], dtype=int), np.empty((0, 1)))["log_loss"] is None


def test_what_binary_says() -> None:
    assert BINARY.labels([True, False]).tolist() == BINARY.labels(np.array([1.0, 0.0])).tolist() == [1, 0]
    assert BINARY.answer(np.array([0.25]), {"threshold": 0.25}) == {
        "probability": 0.25, "decision": 1, "threshold": 0.25,
    }  # fmt: skip
    assert BINARY.answer(np.array([0.24]), {"threshold": 0.25})["decision"] == BINARY.decision(0) == 0
    assert BINARY.describe(np.array([0.2])) == "Label rate in the training window: 0.200."
    assert {name: event.tolist() for name, event in BINARY.events(np.array([0, 1])).items()} == {
        "the label is 1": [False, True]
    }
    assert BINARY.gain({"roc_auc": 0.75}, {"roc_auc": 0.5}, "log_loss") == (0.25, "of ROC AUC, 0.75 against 0.5")
    assert BINARY.gain({"roc_auc": None}, {"roc_auc": 0.5}, "log_loss")[0] is None
    with pytest.raises(HindcastError, match="The test window has 2 rows with 1 different labels; both labels must"):
        BINARY.check_variety(np.array([1, 1]), "The test window")


# Multiclass

KINDS = np.array([0, 1, 2, 1])
SAID = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])


def test_metrics_of_classes_by_hand() -> None:
    found = CLASSES.measure(KINDS, SAID)
    # The likeliest are early, late, late, lost: right for the first two. F1 is 1 of early, 1/2 of late, 0 of lost.
    # Areas: early beats all; of late's four pairs three are won; lost wins one of three and ties one.
    expected = {
        "rows": 4,
        "log_loss": -np.log([0.7, 0.6, 0.3, 0.3]).mean(),
        "accuracy": 0.5,
        "macro_f1": 0.5,
        "roc_auc": (1 + 0.75 + 0.5) / 3,
        "highest_roc_auc": 1.0,
        "brier": (0.14 + 0.26 + 0.78 + 0.74) / 4,
        "rate_early": 0.25,
        "rate_late": 0.5,
        "rate_lost": 0.25,
        "mean_probability_early": 1.3 / 4,
        "mean_probability_late": 0.4,
        "mean_probability_lost": 1.1 / 4,
    }
    assert found == pytest.approx(expected)


def test_every_multiclass_metric_is_scikit_learns() -> None:
    from sklearn import metrics

    random = np.random.default_rng(1)
    said = random.dirichlet([1, 2, 0.5], 600).round(3) + 1e-3
    said /= said.sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=row) for row in said])
    expected = {
        "log_loss": metrics.log_loss(labels, said),
        "accuracy": metrics.accuracy_score(labels, said.argmax(axis=1)),
        "macro_f1": metrics.f1_score(labels, said.argmax(axis=1), average="macro"),
        "roc_auc": metrics.roc_auc_score(labels, said, multi_class="ovr", average="macro"),
        "highest_roc_auc": max(metrics.roc_auc_score(labels == code, said[:, code]) for code in range(3)),
        "brier": sum(metrics.brier_score_loss(labels == code, said[:, code]) for code in range(3)),
    }
    found = CLASSES.measure(labels, said)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_a_class_that_does_not_occur_has_no_area_and_of_a_rare_one_the_area_is_not_judged() -> None:
    two = CLASSES.measure(KINDS[[0, 1, 3]], SAID[[0, 1, 3]])
    assert (two["roc_auc"], two["rate_lost"]) == (1.0, 0.0)
    assert CLASSES.details(KINDS[[0, 1]], SAID[[0, 1]], {})["roc_auc"] == {"early": 1.0, "late": 1.0, "lost": None}
    one = CLASSES.measure(KINDS[:1], SAID[:1])
    assert (one["roc_auc"], one["highest_roc_auc"], one["accuracy"]) == (None, None, 1.0)
    # Of lost there is one row, told perfectly; of the others thirty each, told by a coin.
    labels = np.append(np.repeat([0, 1], 30), 2)
    said = np.vstack([np.tile([[0.5, 0.4, 0.1], [0.4, 0.5, 0.1]], (30, 1)), [0.1, 0.1, 0.8]])
    found = CLASSES.measure(labels, said)
    assert found["highest_roc_auc"] == pytest.approx((0.5 * 30 + 1) / 31)
    assert found["roc_auc"] == pytest.approx((2 * (0.5 * 30 + 1) / 31 + 1) / 3)


def test_what_is_read_off_decisions_on_classes() -> None:
    details = CLASSES.details(KINDS, SAID, {})
    assert details["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert details["roc_auc"] == {"early": 1.0, "late": 0.75, "lost": 0.5}
    assert CLASSES.explain_details(details) == (
        "The likeliest class is right for 1 of 1 of early, 1 of 2 of late, 0 of 1 of lost."
    )
    nothing = CLASSES.details(KINDS[:0], SAID[:0], {})
    assert (nothing["confusion"], nothing["roc_auc"]["late"]) == ([[0] * 3] * 3, None)
    assert CLASSES.explain_details(nothing).endswith("0 of 0 of early, 0 of 0 of late, 0 of 0 of lost.")


def test_what_multiclass_says() -> None:
    assert CLASSES.outputs == ("probability_early", "probability_late", "probability_lost")
    assert CLASSES.labels(["lost", "early"]).tolist() == [2, 0]
    assert find_task("multiclass", ("1", "2")).labels(np.array([2, 1])).tolist() == [1, 0]
    with pytest.raises(HindcastError, match=r"label\.classes: 'burnt' isn't among early, late, lost"):
        CLASSES.labels(["late", "burnt"])
    assert CLASSES.calibrate(metrics_of(), KINDS, SAID) == {}
    assert CLASSES.decide(SAID, {}).tolist() == [0, 1, 1, 2]  # type: ignore[union-attr]
    assert CLASSES.decision(2) == "lost"
    assert CLASSES.answer(SAID[3], {}) == {
        "probabilities": {"early": 0.3, "late": 0.3, "lost": 0.4}, "decision": "lost",
    }  # fmt: skip
    means = CLASSES.means(KINDS).mean(axis=0)
    assert means.tolist() == [0.25, 0.5, 0.25]
    assert (
        CLASSES.describe(means) == "Rates of the classes in the training window: early 0.250, late 0.500, lost 0.250."
    )
    events = CLASSES.events(KINDS)
    assert events["the label is late"].tolist() == [False, True, False, True]
    assert list(events) == [f"the label is {name}" for name in CLASSES.classes]
    assert [scores.tolist() for scores in CLASSES.event_scores(SAID)] == SAID.T.tolist()


def test_a_gain_is_a_share_of_the_loss_or_of_what_is_missing_to_one() -> None:
    gain, unit = CLASSES.gain({"log_loss": 0.75}, {"log_loss": 1.0}, "log_loss")
    assert (gain, unit) == (0.25, "of log_loss, 0.7500 against 1.0000")
    assert CLASSES.gain({"accuracy": 0.75}, {"accuracy": 0.5}, "accuracy")[0] == 0.5
    assert CLASSES.gain({"accuracy": 0.25}, {"accuracy": 0.5}, "accuracy")[0] == -0.5
    assert NUMBER.gain({"mae": 3.0}, {"mae": 4.0}, "mae")[0] == 0.25
    assert NUMBER.gain({"r2": None}, {"r2": 0.0}, "r2") == (None, "of r2, which isn't defined")
    assert NUMBER.gain({"mae": 3.0}, {"mae": 0.0}, "mae")[0] is None


def test_a_class_that_a_fit_never_saw_has_no_probability() -> None:
    from sklearn.linear_model import LogisticRegression

    matrix = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    said = CLASSES.predict(LogisticRegression().fit(matrix, [0, 0, 2, 2]), matrix)
    assert said.shape == (4, 3)
    assert (said[:, 1] == 0).all() and said.sum(axis=1) == pytest.approx(1)
    assert said[0, 0] > 0.5 < said[3, 2]


def test_which_classes_must_occur() -> None:
    CLASSES.check_variety(np.array([0, 1]), "The test window")
    with pytest.raises(HindcastError, match="The train window has 2 rows, none of the class lost"):
        CLASSES.check_variety(np.array([0, 1]), "The train window", learned_from=True)
    with pytest.raises(HindcastError, match="The test window has 1 rows, none of the class early, lost"):
        CLASSES.check_variety(np.array([1]), "The test window")


# Regression

AMOUNTS = np.array([1.0, 2.0, 4.0, 10.0])
VALUES = np.array([[2.0, 1.0, 3.0], [2.0, 1.0, 3.0], [3.0, 2.0, 4.0], [8.0, 7.0, 9.0]])


def test_metrics_of_values_by_hand() -> None:
    found = NUMBER.measure(AMOUNTS, VALUES)
    expected = {
        "rows": 4,
        "mae": (1 + 0 + 1 + 2) / 4,
        "rmse": np.sqrt((1 + 0 + 1 + 4) / 4),
        "rmsle": np.sqrt((np.log(3 / 2) ** 2 + np.log(5 / 4) ** 2 + np.log(11 / 9) ** 2) / 4),
        "r2": 1 - 6 / (3.25**2 + 2.25**2 + 0.25**2 + 5.75**2),
        "roc_auc_above_median": 1.0,
        "coverage": 0.75,  # 10 lies above 9
        "interval_width": 2.0,
        "label_mean": 4.25,
        "mean_value": 3.75,
    }
    assert found == pytest.approx(expected)


def test_every_regression_metric_is_scikit_learns() -> None:
    from sklearn import metrics

    random = np.random.default_rng(1)
    labels = random.gamma(2.0, 3.0, 500)
    values = labels * random.uniform(0.5, 1.5, 500)
    expected = {
        "mae": metrics.mean_absolute_error(labels, values),
        "rmse": metrics.root_mean_squared_error(labels, values),
        "rmsle": metrics.root_mean_squared_log_error(labels, values),
        "r2": metrics.r2_score(labels, values),
        "roc_auc_above_median": metrics.roc_auc_score(labels > np.median(labels), values),
    }
    found = NUMBER.measure(labels, np.stack([values, values - 1, values + 1], axis=1))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_what_values_leave_undefined_is_none() -> None:
    bare = NUMBER.measure(AMOUNTS, np.column_stack([AMOUNTS, np.full((4, 2), np.nan)]))
    assert (bare["coverage"], bare["interval_width"], bare["mae"], bare["r2"]) == (None, None, 0.0, 1.0)
    alike = NUMBER.measure(np.array([3.0, 3.0]), VALUES[:2])
    assert (alike["r2"], alike["roc_auc_above_median"]) == (None, None)
    assert NUMBER.measure(np.array([-2.0, 1.0]), VALUES[:2])["rmsle"] is None


def test_above_the_median_lies_something_wherever_labels_differ() -> None:
    assert above_median(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [False, False, True, True]
    assert above_median(np.array([0.0, 0.0, 0.0, 4.0])).tolist() == [False, False, False, True]
    assert above_median(np.array([0.0, 4.0, 4.0, 4.0])).tolist() == [False, True, True, True]


def test_intervals_are_chosen_on_validation_and_completed() -> None:
    labels = np.arange(1.0, 20.0)
    bare = np.column_stack([np.zeros(19), np.full((19, 2), np.nan)])
    found = NUMBER.calibrate(metrics_of(coverage=0.9), labels, bare)
    assert found == {"coverage": 0.9, "interval": {"centres": [0.0], "lower": [1.0], "upper": [19.0]}}
    assert NUMBER.calibrate(metrics_of(), labels, bare)["coverage"] == 0.8
    assert NUMBER.complete(bare[:1], found).tolist() == [[0.0, 1.0, 19.0]]
    assert np.isnan(NUMBER.complete(bare[:1], {})[0, 1])
    assert NUMBER.measure(labels, NUMBER.complete(bare, found))["coverage"] == 1.0


def test_on_the_scale_of_logarithms_values_and_intervals_are_never_below_zero() -> None:
    labels = np.array([0.0, np.e - 1])
    assert COUNT.target(labels).tolist() == pytest.approx([0.0, 1.0])
    said = COUNT.read_graph(np.array([[-0.5], [0.0], [1.0]], dtype=np.float32))
    assert said[:, 0].tolist() == pytest.approx([0.0, 0.0, np.e - 1], abs=1e-6)
    whole = COUNT.complete(said[1:], {"interval": {"centres": [0.0], "lower": [-0.5], "upper": [0.5]}})
    assert whole[0].tolist() == pytest.approx([0.0, 0.0, np.expm1(0.5)])
    assert whole[1].tolist() == pytest.approx([np.e - 1, np.expm1(0.5), np.expm1(1.5)], abs=1e-5)
    # The interval is fitted on the scale: log(1 + label) misses log(1 + value) by 0 to 8.
    bare = np.column_stack([np.zeros(9), np.full((9, 2), np.nan)])
    fitted = COUNT.calibrate(metrics_of(), np.expm1(np.arange(9.0)), bare)["interval"]
    assert fitted["lower"] + fitted["upper"] == pytest.approx([0.0, 8.0])
    with pytest.raises(HindcastError, match=r"label\.scale: log1p needs labels from 0 on, and there is -1"):
        COUNT.labels([3, -1])
    assert NUMBER.labels([3, -1]).tolist() == [3.0, -1.0]
    # The history is the mean on the scale: of 0 and 3, log(4) / 2.
    mean = COUNT.means(np.array([0.0, 3.0])).mean(axis=0)
    assert COUNT.from_means(mean[None])[0, 0] == pytest.approx(1.0)
    assert NUMBER.from_means(NUMBER.means(np.array([0.0, 3.0])).mean(axis=0)[None])[0, 0] == 1.5
    assert COUNT.describe(mean) == "Mean label in the training window on its scale of log(1 + label): 0.693."


def test_differences_of_values_are_in_units_of_the_largest_label() -> None:
    assert NUMBER.parity_scale(np.array([-0.004, 0.002])) == 0.004
    assert NUMBER.parity_scale(np.array([3e6, 1.0])) == 3e6
    assert NUMBER.parity_scale(np.zeros(2)) == 1.0
    assert BINARY.parity_scale(LABELS) == CLASSES.parity_scale(KINDS) == 1.0


def test_what_regression_says() -> None:
    assert NUMBER.decide(VALUES, {}) is None
    with pytest.raises(HindcastError, match="decides nothing"):
        NUMBER.decision(0)
    assert NUMBER.answer(VALUES[0], {"coverage": 0.8}) == {"value": 2.0, "lower": 1.0, "upper": 3.0, "coverage": 0.8}
    assert NUMBER.events(AMOUNTS)["the label is above its median"].tolist() == [False, False, True, True]
    details = NUMBER.details(AMOUNTS, VALUES, {})
    # Residuals are -1, 0, 1 and 2.
    assert details == {"residual_quantiles": {"0.05": -0.85, "0.25": -0.25, "0.5": 0.5, "0.75": 1.25, "0.95": 1.85}}
    assert NUMBER.explain_details(details) == (
        "Half of the labels lie between -0.25 and +1.25 from the value, nine of ten between -0.85 and +1.85."
    )
    assert NUMBER.explain_details(NUMBER.details(AMOUNTS[:0], VALUES[:0], {})) == "There are no rows."
    with pytest.raises(HindcastError, match="The test window has 2 rows with the same label"):
        NUMBER.check_variety(np.array([3.0, 3.0]), "The test window")


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_a_loss_that_cannot_be_exported_is_refused(loss: str) -> None:
    with pytest.raises(ValueError, match=f"loss {loss} can't be exported rightly; declare label.scale: log1p instead"):
        NUMBER.family("hist_gradient_boosting")(loss=loss)


# What a problem file may declare


@pytest.mark.parametrize(
    ("task", "declared", "said"),
    [
        (BINARY, {"coverage": 0.9}, r"metrics\.coverage: only the task regression has intervals"),
        (CLASSES, {"coverage": 0.9}, r"metrics\.coverage: only the task regression has intervals"),
        (CLASSES, {"threshold": 0.5}, r"metrics\.threshold: only the task binary decides by one"),
        (NUMBER, {"threshold": "best_f1"}, r"metrics\.threshold: only the task binary decides by one"),
    ],
)
def test_a_declaration_of_another_task_is_refused(task: Any, declared: dict[str, Any], said: str) -> None:
    with pytest.raises(HindcastError, match=said):
        task.check_metrics(metrics_of(**declared))


def test_a_tasks_own_declaration_is_taken() -> None:
    BINARY.check_metrics(metrics_of(threshold="base_rate"))
    CLASSES.check_metrics(metrics_of())
    NUMBER.check_metrics(metrics_of(coverage=0.9))
