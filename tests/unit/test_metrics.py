"""Metrics by hand, and held to scikit-learn's."""

import numpy as np
import pytest

from hindcast.errors import HindcastError
from hindcast.evaluation.metrics import (
    METRICS,
    best_f1_threshold,
    calibration_bins,
    calibration_error,
    confusion,
    measure,
    metric_named,
    roc_auc,
)

LABELS = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.4, 0.4, 0.2, 0.9])


def test_area_under_the_curve_counts_pairs_and_half_of_ties() -> None:
    # Of the six pairs: 0.4 and 0.2 and 0.9 beat 0.1; 0.9 beats 0.4; 0.4 ties with 0.4; 0.2 loses to it.
    assert roc_auc(LABELS, PROBABILITIES) == pytest.approx(4.5 / 6)


def test_every_metric_is_scikit_learns() -> None:
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
    found = measure(labels, probabilities)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


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


def test_the_best_threshold_lies_between_two_probabilities() -> None:
    # From 0.2 on, F1 is 2·3 / (4 + 3); from 0.4 on 2·2 / (3 + 3); from 0.9 on 2 / (1 + 3); for all 6 / (5 + 3).
    assert best_f1_threshold(LABELS, PROBABILITIES) == pytest.approx(0.15)


def test_what_one_label_leaves_undefined_is_none() -> None:
    found = measure(np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]))
    assert found["roc_auc"] is None and found["average_precision"] is None
    assert found["brier"] == pytest.approx((0.01 + 0.04 + 0.09) / 3)
    assert measure(np.array([], dtype=int), np.array([]))["log_loss"] is None


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(HindcastError, match="'auc'; there are roc_auc"):
        metric_named("auc")
    assert METRICS["roc_auc"].loss(0.7) == -0.7
