"""Choosing on validation, thresholds, baselines and slices."""

import json

import numpy as np
import polars as pl
import pytest

from hindcast.artefacts import to_json
from hindcast.errors import HindcastError
from hindcast.evaluation.evaluate import Evaluation, baselines, choose_threshold, evaluate, historic_rate, slices
from hindcast.evaluation.metrics import measure
from hindcast.evaluation.plots import evaluation_plots, importances_of
from hindcast.pages import as_markdown, as_page
from hindcast.problem import Problem
from hindcast.training.search import Candidates, probabilities
from hindcast.training.training_data import TrainingData
from tests.made_up_problem import parcels_problem, trained_parcels

Trained = tuple[Problem, TrainingData, Candidates]


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_parcels()


@pytest.fixture(scope="module")
def evaluation(trained: Trained) -> Evaluation:
    problem, data, candidates = trained
    return evaluate(problem, data.frame, candidates)


def test_the_candidate_with_the_lowest_loss_on_validation_is_chosen(evaluation: Evaluation) -> None:
    losses = {entry["name"]: entry["validation"]["log_loss"] for entry in evaluation.report["candidates"]}
    assert evaluation.chosen == min(losses, key=lambda name: losses[name])
    assert [entry["chosen"] for entry in evaluation.report["candidates"]].count(True) == 1


def test_metrics_are_those_of_the_candidates_probabilities(trained: Trained, evaluation: Evaluation) -> None:
    _, _, candidates = trained
    entry = evaluation.report["candidates"][0]
    said = probabilities(candidates.fitted[0].estimator, evaluation.test.matrix)
    found = dict(entry["test"])
    confusion = found.pop("confusion")
    assert found == measure(evaluation.test.labels, said)
    assert confusion["true_positive"] == np.sum((said >= entry["threshold"]) & (evaluation.test.labels == 1))


def test_evaluating_twice_gives_the_same_text(trained: Trained, evaluation: Evaluation) -> None:
    problem, data, candidates = trained
    text = to_json(evaluation.report)
    assert to_json(evaluate(problem, data.frame.reverse(), candidates).report) == text
    assert "snapshot" not in json.loads(text)  # its number differs between homes


def test_a_threshold_may_be_the_base_rate_or_a_number() -> None:
    labels, said = np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert np.sum(said >= choose_threshold("base_rate", labels, said)) == 1
    assert choose_threshold(0.7, labels, said) == 0.7
    assert choose_threshold("best_f1", labels, said) == pytest.approx(0.35)


def test_a_historic_rate_leans_towards_the_overall_one() -> None:
    trained = pl.DataFrame({"late": [1, 1, 1, 0, 0, 0], "depot": ["a", "a", "a", "b", "b", None]})
    asked = pl.DataFrame({"depot": ["b", "a", "never", None]})
    rates = historic_rate(parcels_problem(), trained, asked)
    assert rates == pytest.approx([10 / 22, 13 / 23, 0.5, 10 / 21])


def test_a_baseline_without_columns_is_the_overall_rate() -> None:
    trained = pl.DataFrame({"late": [1, 0, 0, 0]})
    problem = parcels_problem(baseline={"columns": [], "min_gain": 0.0})
    assert historic_rate(problem, trained, trained.head(2)) == pytest.approx([0.25, 0.25])
    wrong = parcels_problem(baseline={"columns": ["route"], "min_gain": 0.0})
    with pytest.raises(HindcastError, match=r"baseline\.columns: no column route"):
        historic_rate(wrong, trained, trained)


def test_baselines_learn_from_the_training_window_alone(trained: Trained) -> None:
    problem, data, _ = trained
    frame = data.frame
    known = frame.filter(pl.col("split") == "train")["late"].mean()
    found = baselines(problem, frame)
    assert found["base_rate"]["test"]["mean_probability"] == pytest.approx(known)
    assert found["base_rate"]["test"]["roc_auc"] == 0.5
    turned = frame.with_columns(late=pl.when(pl.col("split") == "train").then("late").otherwise(1 - pl.col("late")))
    shifted = baselines(problem, turned)["historic_rate"]["test"]
    assert shifted["mean_probability"] == found["historic_rate"]["test"]["mean_probability"]


def test_slices_with_too_few_rows_are_left_out() -> None:
    problem = parcels_problem(slices={"columns": ["depot"], "min_rows": 3})
    frame = pl.DataFrame({"late": [0, 1, 1, 0, 1], "depot": ["a", "a", "a", "b", None]})
    (found,) = slices(problem, frame, np.array([0.1, 0.9, 0.8, 0.5, 0.5]))
    assert (found["column"], found["value"], found["rows"], found["roc_auc"]) == ("depot", "a", 3, 1.0)


def test_pictures_are_small_enough_to_show_and_the_page_stands_by_itself(
    trained: Trained, evaluation: Evaluation
) -> None:
    problem, _, candidates = trained
    importances = importances_of(evaluation, candidates, 7)
    assert importances[0][0] == "weight" and len(importances) == 4
    pictures = evaluation_plots(evaluation, importances, problem.metrics.primary)
    assert len(pictures) == 6
    assert all(picture.startswith(b"\x89PNG") and len(picture) < 60_000 for picture in pictures.values())
    assert as_markdown(pictures)["Confusion"].startswith("![Confusion](data:image/png;base64,iVBOR")
    page = as_page("A & B", "Why?", {"Table": "| a | b |\n|---|---|\n| 1 | <2> |"}, pictures)
    assert "A &amp; B" in page and "<td>&lt;2&gt;</td>" in page and "http" not in page
