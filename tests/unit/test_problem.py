"""The problem file's form: what is wrong is named with its key and its file."""

from datetime import timedelta
from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.problem import load_problem
from tests.conftest import ROOT

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
