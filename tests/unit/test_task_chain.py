"""Several classes, and numbers, through the whole chain: train, evaluate, package, judge, score; and their leaks."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hindcast.artefacts import to_json
from hindcast.errors import HindcastError
from hindcast.evaluation import scoring
from hindcast.evaluation.evaluate import Evaluation, evaluate, shown_metrics, shown_slices
from hindcast.evaluation.intervals import Scored, compare_areas, compare_losses
from hindcast.evaluation.leak_checks import check_features, check_models, check_training_set
from hindcast.evaluation.plots import evaluation_plots, importances_of
from hindcast.evaluation.scoring import evaluate_period, score_period, write_batch
from hindcast.lake import Lake
from hindcast.package.build import build
from hindcast.package.explain import SCORE_LIMIT
from hindcast.package.model import CARD, METRICS, ServedModel
from hindcast.package.reference import History, read_reference
from hindcast.problem import Problem
from hindcast.promotion.champion import promote
from hindcast.promotion.gate import evaluate_gate, shown_checks
from hindcast.promotion.verdict import ALREADY, PROMOTED, UNDECIDED, verdict_file
from hindcast.settings import Settings
from hindcast.tasks import find_task, problem_task
from hindcast.tasks.task import Task
from hindcast.training.search import Candidates, train
from hindcast.training.training_data import TrainingData, split_rows
from tests.made_up_problem import FEATURES, WINDOWS, parcels, parcels_data, parcels_problem, trained_parcels
from tests.tiny_model import write_package

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Chain:
    """A problem, its data and candidates."""

    problem: Problem
    data: TrainingData
    candidates: Candidates

    @cached_property
    def task(self) -> Task:
        return problem_task(self.problem)

    @cached_property
    def evaluation(self) -> Evaluation:
        return evaluate(self.problem, self.data.frame, self.candidates)

    def package(self, settings: Settings) -> Path:
        report = self.evaluation.report
        return build(settings, self.problem, self.data, self.candidates, report, ["parcel_id"]).folder

    def of(self, split: str) -> pl.DataFrame:
        return self.data.frame.filter(pl.col("split") == split).sort("asked_at", "parcel_id")


@pytest.fixture(
    scope="module",
    params=[("multiclass", None), ("regression", None), ("regression", "log1p")],
    ids=["multiclass", "regression", "log1p"],
)
def chain(request: pytest.FixtureRequest) -> Chain:
    task, scale = request.param
    return Chain(*trained_parcels(task=task, scale=scale))


def test_the_best_draw_and_the_best_candidate_are_chosen(chain: Chain) -> None:
    for fitted in chain.candidates.fitted:
        assert fitted.parameters == min(fitted.draws, key=lambda draw: draw.score).parameters
    primary, entries = chain.problem.metrics.primary, chain.evaluation.report["candidates"]
    best = min(entries, key=lambda entry: entry["validation"][primary])
    assert (best["name"], best["chosen"]) == (chain.evaluation.chosen, True)


def test_metrics_are_those_of_what_scikit_learn_says(chain: Chain) -> None:
    from sklearn import metrics

    entry, labels = chain.evaluation.report["candidates"][0], chain.of("test")["late"].to_numpy()
    estimator, matrix = chain.candidates.fitted[0].estimator, chain.evaluation.test.matrix
    if chain.task.classes:
        assert list(estimator.classes_) == [0, 1, 2]
        said = estimator.predict_proba(matrix)
        expected = {
            "log_loss": metrics.log_loss(labels, said, labels=list(chain.task.classes)),
            "accuracy": metrics.accuracy_score(labels, np.array(chain.task.classes)[said.argmax(axis=1)]),
            "rate_lost": (labels == "lost").mean(),
        }
    else:
        said = estimator.predict(matrix).astype(np.float64)
        said = np.maximum(np.expm1(said), 0) if chain.task.scale else said
        expected = {"mae": metrics.mean_absolute_error(labels, said), "r2": metrics.r2_score(labels, said)}
    assert {name: entry["test"][name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_intervals_are_chosen_on_validation_and_hold_on_the_test_window(chain: Chain) -> None:
    for entry in chain.evaluation.report["candidates"]:
        if "interval" not in entry["calibration"]:
            assert entry["calibration"] == {} and chain.task.classes
            continue
        assert 0.8 <= entry["validation"]["coverage"] <= 0.84  # bins of few rows promise by whole ranks: rather more
        assert entry["test"]["coverage"] == pytest.approx(0.8, abs=0.06)


def test_baselines_and_slices_are_measured(chain: Chain) -> None:
    report, primary = chain.evaluation.report, chain.problem.metrics.primary
    assert tuple(report["baselines"]) == chain.task.baseline_names
    overall, per_group = report["baselines"].values()
    assert per_group["columns"] == ["depot"]
    chosen = chain.evaluation.chosen_report["test"][primary]
    assert chosen < 0.9 * overall["test"][primary] and chosen < 0.9 * per_group["test"][primary]
    labels, trained = (chain.task.labels(chain.of(split)["late"].to_numpy()) for split in ("test", "train"))
    if chain.task.classes:
        rates = np.bincount(trained) / len(trained)
        assert overall["test"]["log_loss"] == pytest.approx(-np.log(rates[labels]).mean())
        assert report["history"] == pytest.approx(rates.tolist())
    else:
        mean = np.expm1(np.log1p(trained).mean()) if chain.task.scale else trained.mean()
        assert overall["test"]["mae"] == pytest.approx(np.abs(labels - mean).mean())
        assert overall["test"]["coverage"] is None
    east = next(each for each in report["slices"] if each["value"] == "east")
    said = chain.evaluation.said[chain.evaluation.chosen]["test"]
    rows = (chain.of("test")["depot"] == "east").to_numpy()
    assert east == {"column": "depot", "value": "east"} | chain.task.measure(labels[rows], said[rows])


def test_evaluating_twice_gives_the_same_text(chain: Chain) -> None:
    again = evaluate(chain.problem, chain.data.frame.reverse(), chain.candidates)
    assert to_json(again.report) == to_json(chain.evaluation.report)


def test_tables_and_pictures_are_shown(chain: Chain) -> None:
    task, report, primary = chain.task, chain.evaluation.report, chain.problem.metrics.primary
    table = shown_metrics(task, [*report["candidates"], *chain.evaluation.baseline_entries]).splitlines()
    assert table[0] == f"|  | on | {' | '.join(task.metrics)} |" and len(table) == 2 + 2 * 4
    assert shown_slices(task, report["slices"]).startswith("| column | value | rows | ")
    importances = importances_of(task, chain.evaluation, chain.candidates, primary, 7)
    assert importances[0][0] == "weight" and importances[0][1] > 0
    pictures = evaluation_plots(task, chain.evaluation, importances, primary)
    own = ["Label and value", "Residuals", "Coverage by value"]
    if task.classes:
        own = ["Confusion", "ROC per class", "Calibration per class"]
    assert list(pictures) == [*own, "Slices", "Feature importance"]
    assert all(picture.startswith(b"\x89PNG") and len(picture) < 60_000 for picture in pictures.values())


def test_a_perfect_model_can_be_drawn(chain: Chain) -> None:
    from hindcast.pages import draw

    labels = chain.task.labels(chain.of("test")["late"].to_numpy())
    said = chain.task.from_means(chain.task.means(labels))
    said = chain.task.complete(said, {"interval": {"centres": [0.0], "lower": [0.0], "upper": [0.0]}})
    for picture in chain.task.pictures(labels, {"perfect": said}, "perfect", {}).values():
        assert draw(picture.draw, columns=picture.columns).startswith(b"\x89PNG")


def test_a_package_says_what_scikit_learn_says_and_explains_it(settings: Settings, chain: Chain) -> None:
    model = ServedModel.load(chain.package(settings))
    test = chain.of("test")
    said = model.predict(model.matrix({name: test[name].to_list() for name in model.signature.names}))
    chosen = chain.evaluation.chosen
    scale = chain.task.parity_scale(chain.task.labels(test["late"].to_numpy()))
    np.testing.assert_allclose(said, chain.evaluation.said[chosen]["test"], atol=1e-6 * scale)
    assert model.smoke_test() < 1e-6
    assert model.signature.kind.outputs == chain.task.outputs
    assert model.signature.calibration == chain.evaluation.chosen_report["calibration"]
    measured = json.loads((model.folder / METRICS).read_text())
    assert measured["parity"]["rows"] == measured["explanation"]["rows"] == test.height
    assert measured["parity"]["max_difference"] < 1e-6
    assert measured["explanation"]["max_difference"] < SCORE_LIMIT
    assert read_reference(model)["label"].to_list() == test["late"].to_list()
    history = History.read(model)
    assert history.overall == pytest.approx(np.array(model.signature.history))
    own = History.of(chain.problem, chain.of("train"))
    assert history.means(test).tolist() == own.means(test).tolist()


def test_a_card_says_what_an_answer_is_and_how_good_it_is(settings: Settings, chain: Chain) -> None:
    card = (chain.package(settings) / CARD).read_text()
    words = ["Mean label in the training window", "`coverage`: The share of labels", "Half of the labels lie between"]
    if chain.task.classes:
        words = ["Rates of the classes in the training window: early 0.", "`decision`: The likeliest class"]
        words.append("The likeliest class is right for")
    names = [name.replace("_", " ") for name in chain.task.baseline_names]
    for each in (*words, *names, chain.problem.question, "| depot | east |", f"(in {chain.task.score_unit})"):
        assert each in card


def test_the_gate_promotes_judges_again_and_compares(settings: Settings, chain: Chain) -> None:
    problem, data, report = chain.problem, chain.data, chain.evaluation.report
    folder = chain.package(settings)
    said = evaluate_gate(settings, problem, data, report, folder, NOON)
    assert said.verdict == PROMOTED, shown_checks(said.checks)
    bars = ["test_r2_at_least", "test_coverage_at_least", "test_coverage_at_most"]
    if chain.task.classes:
        bars = ["test_accuracy_at_least", "test_log_loss_at_most"]
    leaks = ["single_feature_roc_auc", "null_pattern_label_rate", "known_at_violations", "model_roc_auc"]
    assert [check.name for check in said.checks] == [
        *bars, "gain_over_baseline_at_least", *leaks, "onnx_parity", "smoke_test", "not_worse_than_champion",
    ]  # fmt: skip
    primary = problem.metrics.primary
    historic = report["baselines"][chain.task.baseline_names[1]]["test"][primary]
    gain = next(check for check in said.checks if check.name == "gain_over_baseline_at_least")
    assert gain.value == pytest.approx(1 - chain.evaluation.chosen_report["test"][primary] / historic)
    promote(settings, folder.name, NOON, verdict_file(settings, folder.name))
    assert evaluate_gate(settings, problem, data, report, folder, NOON).verdict == ALREADY

    other = json.loads(json.dumps(report))
    for entry in other["candidates"]:
        entry["chosen"] = not entry["chosen"]
    second = build(settings, problem, data, chain.candidates, other, ["parcel_id"])
    said = evaluate_gate(settings, problem, data, other, second.folder, NOON)
    losses = [next(e for e in each["candidates"] if e["chosen"])["test"][primary] for each in (other, report)]
    assert f"{folder.name}: difference of {primary} {losses[0] - losses[1]:+.5f}" in said.checks[-1].detail


def test_a_champion_of_another_task_is_left_to_a_person(settings: Settings, chain: Chain) -> None:
    write_package(settings.models, "yesterday")
    promote(settings, "yesterday", NOON, verdict_file(settings, "yesterday"))
    said = evaluate_gate(settings, chain.problem, chain.data, chain.evaluation.report, chain.package(settings), NOON)
    assert said.verdict == UNDECIDED
    assert "yesterday can't be compared with: yesterday predicts probability (binary), and problems/parcels.yaml " in (
        said.checks[-1].detail
    )


# Scoring


@pytest.fixture
def lake(settings: Settings, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The parcels, labeled, of which the last has no label yet; their features come from the training set."""
    test = chain.of("test")

    def features(_: Any, __: Any, ___: Any, rows: pl.DataFrame, ____: int) -> pl.DataFrame:
        return rows.join(test.select("parcel_id", *FEATURES), on="parcel_id", how="left", maintain_order="left")

    monkeypatch.setattr(scoring, "own_features", features)
    last = pl.col("parcel_id") == test["parcel_id"][-1]
    labeled = test.select("parcel_id", "depot", "asked_at", pl.when(~last).then("late").alias("late"), "late_known_at")
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA labeled")
        connection.register("frame", labeled.to_arrow())
        connection.execute("CREATE TABLE labeled.parcels AS SELECT * FROM frame")
    return lake


def test_a_period_is_scored_judged_and_written(settings: Settings, chain: Chain, lake: Lake) -> None:
    model, task = ServedModel.load(chain.package(settings)), chain.task
    start, end = WINDOWS["test"]
    scored = score_period(settings, chain.problem, lake, model, start, end)
    assert scored.columns == ["parcel_id", "asked_at", *task.outputs, "decision", "model_version"]
    said = chain.evaluation.said[chain.evaluation.chosen]["test"]
    np.testing.assert_allclose(scored.select(task.outputs).to_numpy(), said, rtol=1e-5, atol=1e-6)
    if task.classes:
        assert scored["decision"].to_list() == said.argmax(axis=1).tolist()
    else:
        assert scored["decision"].null_count() == scored.height
    write_batch(lake, chain.problem, scored)
    with lake.reading() as connection:
        kept = connection.execute("SELECT * FROM parcels.batch_predictions ORDER BY asked_at, parcel_id").pl()
    assert kept.columns == scored.columns and kept.height == scored.height

    found = evaluate_period(settings, chain.problem, lake, model, start, end)
    labels, primary = task.labels(chain.of("test")["late"].to_numpy()), chain.problem.metrics.primary
    expected = task.measure(labels[:-1], said[:-1])
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert (found["without_label"], found["model_version"]) == (1, model.version)
    assert found["gain_over_baseline"] == pytest.approx(1 - found[primary] / found[f"baseline_{primary}"])
    if task.classes:
        assert np.sum(found["details"]["confusion"]) == len(labels) - 1
    assert json.loads(to_json(found))["rows"] == len(labels) - 1


# Leaks


def alarms(chain: Chain, frame: pl.DataFrame, features: list[str]) -> dict[str, str]:
    checks = check_training_set(chain.problem, frame, features, WINDOWS)
    return {check.name: check.message() for check in checks if not check.holds}


def test_honest_data_raises_no_alarm(chain: Chain) -> None:
    assert alarms(chain, chain.data.frame, FEATURES) == {}
    assert check_models(chain.problem, chain.evaluation.report["candidates"]).holds


def test_a_column_that_knows_the_label_is_caught_and_so_is_the_model_that_has_it(chain: Chain) -> None:
    frame, random = chain.data.frame, np.random.default_rng(3)
    if chain.task.classes:  # of three classes it tells one alone
        knows = (frame["late"] == "lost").to_numpy() * 5.0 + random.normal(size=frame.height)
    else:
        knows = frame["late"].to_numpy() * random.uniform(0.8, 1.2, frame.height)
    leaky = frame.with_columns(told=knows)
    told = alarms(chain, leaky, [*FEATURES, "told"])
    assert list(told) == ["single_feature_roc_auc"]
    assert "feature told alone tells the label apart. Highest: told " in told["single_feature_roc_auc"]
    found = evaluate(chain.problem, leaky, train(chain.problem, parcels_data(leaky), [*FEATURES, "told"]))
    check = check_models(chain.problem, found.report["candidates"])
    assert not check.holds and check.value is not None and check.value > 0.95
    assert chain.task.ordering in found.chosen_report["test"]


def test_a_gap_that_is_the_label_is_caught(chain: Chain) -> None:
    # As with a scan that is only absent where the parcel was lost (or came very late), and is of no use otherwise.
    hit = pl.col("late") == "lost" if chain.task.classes else pl.col("late") > pl.col("late").quantile(0.6)
    number = pl.int_range(pl.len())
    frame = chain.data.frame.with_columns(scan=pl.when(~(hit & (number % 5 == 0))).then(number % 7))
    told = alarms(chain, frame, [*FEATURES, "scan"])
    assert list(told) == ["null_pattern_label_rate"]
    event = "the label is lost" if chain.task.classes else "the label is above its median"
    assert f"where scan is missing, {event} in nearly all of" in told["null_pattern_label_rate"]


def test_a_class_that_is_too_rare_to_be_judged_raises_no_alarm() -> None:
    problem, random = parcels_problem("multiclass"), np.random.default_rng(5)
    rare = np.where(np.arange(3000) % 700 == 0, "lost", np.where(random.random(3000) < 0.5, "late", "early"))
    frame = pl.DataFrame({"parcel_id": np.arange(3000), "asked_at": np.arange(3000), "late": rare})
    tells = frame.with_columns(weight=(pl.col("late") == "lost") * 1.0)
    assert check_features(problem, tells, ["weight"]).holds
    often = tells.with_columns(late=pl.when(pl.col("parcel_id") % 70 == 0).then(pl.lit("lost")).otherwise("late"))
    often = often.with_columns(weight=(pl.col("late") == "lost") * 1.0)
    assert not check_features(problem, often, ["weight"]).holds


# Intervals of differences


def days(numbers: Any) -> Any:
    return np.datetime64("2024-05-01T12:00") + np.asarray(numbers).astype("timedelta64[D]")


def test_losses_of_values_are_compared_in_the_labels_unit() -> None:
    task, labels = find_task("regression"), np.array([1.0, 2.0, 3.0, 4.0])
    three = np.column_stack([labels + np.array([1, -2, 1, 0]), np.full((4, 2), np.nan)])
    exact = np.column_stack([labels, np.full((4, 2), np.nan)])
    found = compare_losses(task, "mae", labels, three, exact, days([0, 1, 2, 3]), 7)
    assert (found["difference"], found["days"], found["rows"]) == (1.0, 4, 4)
    assert 0 <= found["low"] < 1 < found["high"] <= 2
    root = compare_losses(task, "rmse", labels, three, exact, days([0, 1, 2, 3]), 7)
    assert root["difference"] == pytest.approx(np.sqrt(6 / 4))


def test_areas_of_classes_are_averaged_over_those_that_occur() -> None:
    task, random = find_task("multiclass", ("early", "late", "lost")), np.random.default_rng(2)

    def scored(kinds: int, rows: int) -> Scored:
        return Scored(random.integers(0, kinds, rows), random.dirichlet(np.ones(3), rows), days(np.arange(rows) % 6))

    ours, theirs = scored(3, 60), scored(2, 40)
    found = compare_areas(task, ours, theirs, seed=3)
    areas = [task.measure(each.labels, each.said)[task.area] for each in (ours, theirs)]
    assert found["difference"] == pytest.approx(areas[0] - areas[1])
    assert found["low"] < found["difference"] < found["high"]
    one = Scored(np.zeros(6, dtype=int), np.full((6, 3), 1 / 3), days(np.arange(6)))
    assert np.isnan(compare_areas(task, ours, one, seed=3)["difference"])


# What can't be learned from


def test_a_class_that_the_training_window_lacks_is_named() -> None:
    problem, frame = parcels_problem("multiclass"), parcels(task="multiclass")
    two = frame.with_columns(
        late=pl.when((pl.col("split") == "train") & (pl.col("late") == "lost")).then(pl.lit("late")).otherwise("late")
    )
    with pytest.raises(HindcastError, match=r"The train window has \d+ rows, none of the class lost"):
        train(problem, parcels_data(two), FEATURES)
    strange = frame.with_columns(late=pl.when(pl.col("late") == "lost").then(pl.lit("burnt")).otherwise("late"))
    with pytest.raises(HindcastError, match=r"label\.classes: 'burnt' isn't among early, late, lost"):
        train(problem, parcels_data(strange), FEATURES)


def test_a_class_that_a_fold_never_saw_stops_nothing() -> None:
    problem, frame = parcels_problem("multiclass"), parcels(task="multiclass")
    early = pl.col("asked_at") < pl.datetime(2024, 2, 10)
    late = frame.with_columns(late=pl.when(early & (pl.col("late") == "lost")).then(pl.lit("late")).otherwise("late"))
    found = train(problem, parcels_data(late), FEATURES)
    matrix = split_rows(problem, late, found.features, "test").matrix
    for fitted in found.fitted:
        assert problem_task(problem).predict(fitted.estimator, matrix).shape == (len(matrix), 3)


def test_labels_below_zero_have_no_logarithm() -> None:
    below = parcels(task="regression").with_columns(late=pl.col("late") - 3)
    with pytest.raises(HindcastError, match=r"label\.scale: log1p needs labels from 0 on"):
        train(parcels_problem("regression", "log1p"), parcels_data(below), FEATURES)
    train(parcels_problem("regression"), parcels_data(below), FEATURES)


def test_whole_numbers_are_labels_of_a_regression_too() -> None:
    problem = parcels_problem("regression", "log1p")
    counts = parcels(task="regression").with_columns(pl.col("late").round().cast(pl.Int32))
    found = evaluate(problem, counts, train(problem, parcels_data(counts), FEATURES))
    assert found.labels["test"].dtype == np.float64
    assert found.chosen_report["test"]["r2"] > 0.2
