"""Scoring and evaluating whole periods, on a small lake and made-up features."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.evaluation import scoring
from hindcast.evaluation.scoring import evaluate_period, score, score_period, scoring_period, summarise, write_batch
from hindcast.lake import Lake
from hindcast.package.model import BASELINE, ServedModel
from hindcast.package.reference import History
from hindcast.settings import Settings
from hindcast.tasks import find_task
from tests.made_up_problem import parcels_problem
from tests.tiny_model import probability, write_package

PROBLEM = parcels_problem(
    entity={"name": "parcel", "key": "parcel", "description": ""}, slices={"columns": [], "min_rows": 1}
)
# Key, day of May on which it is asked about, label (None: not known yet), weight.
PARCELS = [
    ("A", 1, 1, 2.0),
    ("B", 2, 0, 1.0),
    ("C", 3, 1, -1.0),
    ("D", 3, None, 0.5),
    ("E", 4, 0, -2.0),
    ("F", 5, 1, 3.0),
]


def may(day: int) -> datetime:
    return datetime(2024, 5, day, tzinfo=UTC)


@pytest.fixture
def model(settings: Settings) -> ServedModel:
    """Trained on parcels of which those of the east came late, and that of the west didn't."""
    trained = pl.DataFrame({"depot": ["east", "east", "west"], "late": [1, 1, 0]})
    history = History.of(PROBLEM, trained).to_json().encode()
    return ServedModel.load(write_package(settings.models, "v1", more={BASELINE: history}))


@pytest.fixture
def lake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with labeled parcels; their features come from a dictionary instead of a feature store."""
    weights = {name: weight for name, _, _, weight in PARCELS}

    def features(_: Any, __: Any, ___: Any, rows: pl.DataFrame, snapshot: int) -> pl.DataFrame:
        assert snapshot == Lake(settings).snapshot()
        return rows.with_columns(weight=rows["parcel"].replace_strict(weights), kind=pl.lit("box"))

    monkeypatch.setattr(scoring, "own_features", features)
    labeled = pl.DataFrame(
        {
            "parcel": [name for name, *_ in PARCELS],
            "depot": ["east"] * 3 + ["west"] * 3,
            "asked_at": [may(day).replace(tzinfo=None) for _, day, _, _ in PARCELS],
            "late": [label for _, _, label, _ in PARCELS],
            "late_known_at": [None if label is None else may(6).replace(tzinfo=None) for *_, label, _ in PARCELS],
        }
    )
    trained = pl.DataFrame(
        {"split": ["train"] * 3 + ["test"], "depot": ["east", "east", "west", "west"], "late": [1, 1, 0, 1]}
    )
    windows = pl.DataFrame(
        {
            "problem": ["parcels"],
            "split": ["test"],
            "starts_at": [may(2).replace(tzinfo=None)],
            "ends_at": [may(4).replace(tzinfo=None)],
            "as_of": [may(4).replace(tzinfo=None)],
        }
    )
    instants = pl.DataFrame({"name": ["labels.parcels"], "at": [may(5).replace(tzinfo=None)]})
    lake = Lake(settings)
    tables = {
        "labeled.parcels": labeled.reverse(),
        "parcels.training_set": trained,
        "control.windows": windows,
        "control.instants": instants,
    }
    with lake.writing() as connection:
        for name, frame in tables.items():
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.split('.')[0]}")
            connection.register("frame", frame.to_arrow())
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    return lake


def test_a_score_is_the_packages_probability_and_decision(model: ServedModel) -> None:
    frame = pl.DataFrame({"weight": [2.0, -1.0, None], "kind": ["box", "crate", None], "more": [1, 2, 3]})
    scored = score(model, frame)
    assert scored["probability"].to_list() == pytest.approx([probability(0, 2), probability(0, -1), 0.5], abs=1e-6)
    assert scored["decision"].to_list() == [1, 0, 1]
    assert scored.columns == ["weight", "kind", "more", "probability", "decision", "model_version"]
    with pytest.raises(HindcastError, match="v1 needs features that the rows don't have: kind"):
        score(model, frame.drop("kind"))


def test_a_period_is_scored_from_its_start_up_to_its_end_in_the_order_of_time(
    settings: Settings, lake: Lake, model: ServedModel
) -> None:
    scored = score_period(settings, PROBLEM, lake, model, may(2), may(5))
    assert scored.columns == ["parcel", "asked_at", "probability", "decision", "model_version"]
    assert scored["parcel"].to_list() == ["B", "C", "D", "E"]
    assert scored["probability"].to_list() == pytest.approx([probability(0, w) for w in (1, -1, 0.5, -2)], abs=1e-6)


def test_the_period_that_is_scored_begins_with_the_test_window_and_ends_with_what_is_known(lake: Lake) -> None:
    assert scoring_period(lake, PROBLEM) == (may(2), may(5))


def test_scores_become_one_table_that_is_replaced(settings: Settings, lake: Lake, model: ServedModel) -> None:
    for _ in range(2):
        write_batch(lake, PROBLEM, score_period(settings, PROBLEM, lake, model, may(1), may(6)))
    with lake.reading() as connection:
        rows = connection.execute(
            "SELECT parcel, asked_at, decision FROM parcels.batch_predictions ORDER BY ALL"
        ).fetchall()
    assert [(name, at.day, decision) for name, at, decision in rows] == [
        ("A", 1, 1), ("B", 2, 1), ("C", 3, 0), ("D", 3, 1), ("E", 4, 0), ("F", 5, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "more", "expected"),
    [
        ("binary", {}, {"decided_0": 1, "decided_1": 2, "mean_probability": 0.5499}),
        (
            "multiclass",
            {"classes": ("bad", "good")},
            {"decided_bad": 2, "decided_good": 1, "mean_probability_bad": 0.4501, "mean_probability_good": 0.5499},
        ),
        ("regression", {}, {"mean_value": 0.3333, "mean_lower": -0.6667, "mean_upper": 2.3333}),
    ],
)
def test_scores_are_summed_up(settings: Settings, task: str, more: dict[str, Any], expected: dict[str, float]) -> None:
    package = write_package(settings.models, "other", task=task, **more)
    frame = pl.DataFrame({"weight": [2.0, -1.0, 0.0], "kind": ["box", "box", "bag"]})
    label = PROBLEM.label.model_copy(update=more)
    problem = PROBLEM.model_copy(update={"task": task, "label": label})
    assert summarise(problem, score(ServedModel.load(package), frame)) == expected


def test_a_period_is_judged_by_the_labels_that_have_come(settings: Settings, lake: Lake, model: ServedModel) -> None:
    found = evaluate_period(settings, PROBLEM, lake, model, may(1), may(6))
    labels = np.array([1, 0, 1, 0, 1])
    said = np.array([probability(0, weight) for weight in (2, 1, -1, -2, 3)])
    expected = find_task("binary").measure(labels, said[:, None])
    assert found["rows"] == 5 and found["without_label"] == 1
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    # East's rate is the higher: A and C are above E, tie with B; F ties with E and is below B.
    assert found["baseline_roc_auc"] == pytest.approx((2 + 0.5 * 2 + 0.5 + 0) / 6)
    assert found["gain_over_baseline"] == pytest.approx(expected["roc_auc"] - 3.5 / 6)
    assert (found["details"]["true_positive"], found["details"]["false_negative"]) == (2, 1)


def test_without_labels_there_is_nothing_to_judge(settings: Settings, lake: Lake, model: ServedModel) -> None:
    with pytest.raises(HindcastError, match=r"No label of 2024-06-01 00:00 .* is known yet \(0 entities\): choose one"):
        evaluate_period(
            settings, PROBLEM, lake, model, datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 2, tzinfo=UTC)
        )


def test_a_package_that_predicts_something_else_than_the_problem_asks_is_not_judged(
    settings: Settings, lake: Lake, model: ServedModel
) -> None:
    classes = PROBLEM.model_copy(
        update={"task": "multiclass", "label": PROBLEM.label.model_copy(update={"classes": ("0", "1")})}
    )
    with pytest.raises(
        HindcastError, match=r"v1 predicts probability \(binary\), and problems/parcels\.yaml declares "
    ):
        evaluate_period(settings, classes, lake, model, may(1), may(6))
