"""Choosing on validation, baselines and slices."""

import json

import numpy as np
import polars as pl
import pytest

from hindcast.artefacts import to_json
from hindcast.errors import HindcastError
from hindcast.evaluation.evaluate import Evaluation, baselines, evaluate, slices
from hindcast.evaluation.plots import evaluation_plots, importances_of
from hindcast.package.reference import History
from hindcast.pages import as_markdown, as_page
from hindcast.problem import Problem
from hindcast.tasks import find_task
from hindcast.training.search import Candidates
from hindcast.training.training_data import TrainingData
from tests.made_up_problem import parcels_problem, trained_parcels

Trained = tuple[Problem, TrainingData, Candidates]
BINARY = find_task("binary")


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
    said = candidates.fitted[0].estimator.predict_proba(evaluation.test.matrix)[:, 1].astype(np.float64)
    found = dict(entry["test"])
    details, threshold = found.pop("details"), entry["calibration"]["threshold"]
    assert found == BINARY.measure(evaluation.test.labels, said[:, None])
    assert details["true_positive"] == np.sum((said >= threshold) & (evaluation.test.labels == 1))
    assert sum(each["rows"] for each in details["calibration"]) == len(said)


def test_evaluating_twice_gives_the_same_text(trained: Trained, evaluation: Evaluation) -> None:
    problem, data, candidates = trained
    text = to_json(evaluation.report)
    assert to_json(evaluate(problem, data.frame.reverse(), candidates).report) == text
    assert "snapshot" not in json.loads(text)  # its number differs between homes


def test_a_historic_rate_leans_towards_the_overall_one() -> None:
    trained = pl.DataFrame({"late": [1, 1, 1, 0, 0, 0], "depot": ["a", "a", "a", "b", "b", None]})
    asked = pl.DataFrame({"depot": ["b", "a", "never", None]})
    rates = History.of(parcels_problem(), trained).means(asked)
    assert rates[:, 0] == pytest.approx([10 / 22, 13 / 23, 0.5, 10 / 21])


def test_the_history_of_classes_is_their_rates_and_of_numbers_their_mean() -> None:
    fates = pl.DataFrame({"late": ["early", "late", "late", "lost"], "depot": ["a", "a", "b", "b"]})
    history = History.of(parcels_problem("multiclass"), fates)
    assert history.overall.tolist() == [0.25, 0.5, 0.25]
    asked = pl.DataFrame({"depot": ["a", "b", "never"]})
    assert history.means(asked) == pytest.approx(
        np.array([[1 + 5, 1 + 10, 5], [5, 1 + 10, 1 + 5], [5.5, 11, 5.5]]) / 22
    )
    hours = pl.DataFrame({"late": [0.0, 3.0], "depot": ["a", "b"]})
    assert History.of(parcels_problem("regression"), hours).means(asked)[:, 0] == pytest.approx(
        [1.5 * 20 / 21, (1.5 * 20 + 3) / 21, 1.5]
    )
    scaled = History.of(parcels_problem("regression", "log1p"), hours)
    assert scaled.overall.tolist() == pytest.approx([np.log(4) / 2])


def test_a_baseline_without_columns_is_the_overall_rate() -> None:
    trained = pl.DataFrame({"late": [1, 0, 0, 0]})
    problem = parcels_problem(baseline={"columns": [], "min_gain": 0.0})
    assert History.of(problem, trained).means(trained.head(2)).tolist() == [[0.25], [0.25]]
    wrong = parcels_problem(baseline={"columns": ["route"], "min_gain": 0.0})
    with pytest.raises(HindcastError, match=r"baseline\.columns: no column route"):
        History.of(wrong, trained)
    with pytest.raises(HindcastError, match=r"baseline\.columns: no column depot"):
        History.of(parcels_problem(), trained.with_columns(depot=pl.lit("a"))).means(trained)


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
    (found,) = slices(problem, frame, np.array([[0.1], [0.9], [0.8], [0.5], [0.5]]))
    assert (found["column"], found["value"], found["rows"], found["roc_auc"]) == ("depot", "a", 3, 1.0)


def test_pictures_are_small_enough_to_show_and_the_page_stands_by_itself(
    trained: Trained, evaluation: Evaluation
) -> None:
    problem, _, candidates = trained
    importances = importances_of(BINARY, evaluation, candidates, problem.metrics.primary, 7)
    assert importances[0][0] == "weight" and len(importances) == 4
    pictures = evaluation_plots(BINARY, evaluation, importances, problem.metrics.primary)
    assert list(pictures) == [
        "ROC and precision-recall", "Calibration", "Confusion", "Scores", "Slices", "Feature importance",
    ]  # fmt: skip
    assert all(picture.startswith(b"\x89PNG") and len(picture) < 60_000 for picture in pictures.values())
    assert as_markdown(pictures)["Confusion"].startswith("![Confusion](data:image/png;base64,iVBOR")
    page = as_page("A & B", "Why?", {"Table": "| a | b |\n|---|---|\n| 1 | <2> |"}, pictures)
    assert "A &amp; B" in page and "<td>&lt;2&gt;</td>" in page and "http" not in page
