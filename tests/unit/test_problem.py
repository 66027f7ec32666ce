"""The problem file's form: what is wrong is named with its key and its file."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hindcast.errors import HindcastError
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tasks import check_problem
from hindcast.workspace import load_catalogue, open_workspace
from tests.conftest import ROOT
from tests.made_up_problem import parcels_problem

FLIGHTS = ROOT / "problems" / "flight_delay.yaml"


def changed(folder: Path, old: str, new: str) -> Path:
    text = FLIGHTS.read_text()
    assert old in text
    file = folder / "flight_delay.yaml"
    file.write_text(text.replace(old, new))
    return file


def test_the_flights_own_file_is_read() -> None:
    problem = load_problem(FLIGHTS)
    assert problem.task == "binary"
    assert problem.label.matures_within == timedelta(hours=15)
    assert problem.domain == "flights"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  primary: log_loss", "  primry: log_loss", "metrics.primary: missing key; metrics.primry: unknown key"),
        ("  folds: 3", "  folds: one", "budget.folds: Input should be a valid integer"),
        ("name: flight_delay", "name: raw", "name: 'raw': write small letters, digits and underscores, and none of"),
        ("name: flight_delay", "name: Delay", "name: 'Delay': write small letters"),
        ("name: flight_delay", "name: delays", "name: delays must be as the file is called, flight_delay."),
        ("cool_down: 7 days", "cool_down: a week", "monitoring.cool_down: write a number and seconds, minutes, hours"),
        ("start: -10 months", "start: 10 months", "splits.train.start: write how long before"),
        ("name: gradient_boosting", "name: logistic_regression", "candidates: names must differ"),
    ],
)
def test_a_fault_is_named_with_key_and_file(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = changed(tmp_path, old, new)
    with pytest.raises(HindcastError) as raised:
        load_problem(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert said in str(raised.value)


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    changed(tmp_path, "binary", "multiclass")
    with pytest.raises(HindcastError, match=r"No problem file .*none.yaml; there are: flight_delay\.$"):
        load_problem(tmp_path / "none.yaml")


# What only the task knows


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_problem_of_each_task_is_taken(task: str) -> None:
    check_problem(parcels_problem(task))
    check_problem(parcels_problem("regression", "log1p"))


RIDGE = [{"name": "straight", "model": "ridge"}]
LOGISTIC = [{"name": "straight", "model": "logistic_regression"}]


def with_metrics(task: str, **metrics: Any) -> Callable[[], Any]:
    held = parcels_problem(task).metrics.model_dump(exclude_none=True)
    return lambda: parcels_problem(task, metrics=held | metrics)


def with_label(task: str, **label: Any) -> Callable[[], Any]:
    held = parcels_problem(task).label.model_dump(exclude_none=True)
    return lambda: parcels_problem(task, label=held | label)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (with_metrics("binary", primary="mae"), "metrics.primary: There is no metric 'mae' for the task binary; there"),
        (with_metrics("regression", primary="log_loss"), "metrics.primary: There is no metric 'log_loss' for the task"),
        (with_metrics("regression", primary="coverage"), "metrics.primary: coverage alone doesn't say which model is"),
        (with_metrics("regression", primary="interval_width"), "metrics.primary: interval_width alone doesn't say"),
        (with_metrics("multiclass", primary="highest_roc_auc"), "metrics.primary: highest_roc_auc alone doesn't say"),
        (with_metrics("binary", bars={"r2": {"min": 0}}), "metrics.bars.r2: There is no metric 'r2' for the task bin"),
        (with_metrics("multiclass", bars={"ece": {"max": 1}}), "metrics.bars.ece: There is no metric 'ece' for the "),
        (with_metrics("multiclass", threshold=0.5), "metrics.threshold: only the task binary decides by one."),
        (with_metrics("regression", threshold="best_f1"), "metrics.threshold: only the task binary decides by one."),
        (with_metrics("binary", coverage=0.8), "metrics.coverage: only the task regression has intervals."),
        (with_metrics("multiclass", coverage=0.8), "metrics.coverage: only the task regression has intervals."),
        (with_label("multiclass", classes=[]), "label.classes: the task multiclass needs two or more classes"),
        (with_label("multiclass", classes=["a", "b", "a"]), "label.classes: the task multiclass needs two or more"),
        (with_label("binary", classes=["a", "b"]), "label.classes: the task binary takes none."),
        (with_label("regression", classes=["a", "b"]), "label.classes: the task regression takes none."),
        (with_label("regression", scale="sqrt"), "label.scale: the task regression knows log1p, not 'sqrt'."),
        (with_label("binary", scale="log1p"), "label.scale: the task binary takes none."),
        (lambda: parcels_problem(candidates=RIDGE), "candidates.straight.model: There is no model 'ridge' for the"),
        (
            lambda: parcels_problem("regression", candidates=LOGISTIC),
            "candidates.straight.model: There is no model 'logistic_regression' for the task regression; there",
        ),
    ],
)
def test_what_a_task_cannot_take_is_named_with_its_key(problem: Callable[[], Any], said: str) -> None:
    with pytest.raises(HindcastError) as raised:
        check_problem(problem())
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(("key", "value"), [("coverage", 1.0), ("coverage", 0.0)])
def test_a_share_that_no_interval_can_hold_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"metrics.{key}"):
        with_metrics("regression", **{key: value})()


def test_a_fault_is_said_when_a_workspace_or_the_catalogue_is_opened(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path / "home", "flight_delay")
    settings.sources_folder.mkdir(parents=True)
    (settings.sources_folder / "flights.yaml").write_text((FLIGHTS.parent / "sources" / "flights.yaml").read_text())
    content = yaml.safe_load(FLIGHTS.read_text())
    content["metrics"]["primary"] = "mae"
    settings.problem_file.write_text(yaml.safe_dump(content))
    for open_it in (open_workspace, load_catalogue):
        with pytest.raises(HindcastError) as raised:
            open_it(settings)
        assert str(raised.value).startswith(f"{settings.problem_file}: metrics.primary: There is no metric 'mae'")
