"""The benchmarks' runner: what it shows, keeps and returns. Nothing is timed here."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from bench import __main__ as runner
from bench.measure import Case, Row, in_turn, once
from hindcast.errors import HindcastError
from hindcast.settings import Settings

HELD = Row("CPU, 10 rows", "s", 1.5, 1.25, "by hand", at_most=1.2)
MISSED = Row("ROC AUC", "", 0.75, 0.8, "limit", at_least=1)
WISHED = Row("CPU, the same", "s", 1.5, 0.5, "another", at_most=2, stretch=True)
TOLD = Row("rows", "", 12345)


@pytest.mark.parametrize(
    ("row", "ratio", "holds"),
    [
        (HELD, 1.2, True),
        (Row("", "", 1.51, 1.25, at_most=1.2), 1.208, False),
        (MISSED, 0.9375, False),
        (Row("", "", 0.8, 0.8, at_least=1), 1.0, True),
        (WISHED, 3.0, False),
        (TOLD, None, None),
        (Row("", "", 3.0, 2.0), 1.5, None),
        (Row("values that differ", "", 0, 0, at_most=1), None, True),
        (Row("values that differ", "", 1, 0, at_most=1), None, False),
    ],
)
def test_a_bar_is_on_the_ratio_of_ours_to_the_peer(row: Row, ratio: float | None, holds: bool | None) -> None:
    assert row.ratio == pytest.approx(ratio)
    assert row.holds is holds


def benchmark(monkeypatch: pytest.MonkeyPatch, name: str, rows: Sequence[Row]) -> None:
    """Puts a benchmark in the place of one that there is; it needs no measuring."""
    module = ModuleType(f"bench.{name}", f"What {name} compares.")
    module.run = lambda settings, rounds: list(rows)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HINDCAST_HOME", str(tmp_path))
    for variable in Settings.from_environment().environment():
        monkeypatch.setenv(variable, "")  # the runner sets them for its children; here they must go again
    monkeypatch.setenv("HINDCAST_HOME", str(tmp_path))
    return tmp_path


def test_the_table_and_the_file_say_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(monkeypatch, "online", [HELD, WISHED, TOLD])
    assert runner.main(["online", "--rounds", "3"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "What online compares." in shown
    assert shown[-4:] == [
        "what ours peer or limit ratio bar holds",
        "CPU, 10 rows 1.5 s 1.25 s by hand 1.2 ≤ 1.2 yes",
        "CPU, the same 1.5 s 0.5 s another 3 ≤ 2 (stretch) no",
        "rows 12,345 -",
    ]
    kept = json.loads((home / "bench" / "online.json").read_text())
    assert (kept["name"], kept["rounds"]) == ("online", 3)
    found = [(row["what"], row["ours"], row["peer"], row["ratio"], row["holds"]) for row in kept["rows"]]
    assert found == [
        ("CPU, 10 rows", 1.5, 1.25, 1.2, True),
        ("CPU, the same", 1.5, 0.5, 3.0, False),
        ("rows", 12345, None, None, None),
    ]


def test_a_bar_that_does_not_hold_fails_the_run_though_the_others_still_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(monkeypatch, "breadth", [MISSED])
    benchmark(monkeypatch, "online", [HELD])
    assert runner.main(["breadth", "online"]) == 1
    assert "Bars were missed in: breadth." in capsys.readouterr().out
    assert (home / "bench" / "online.json").exists()


def test_a_benchmark_that_cannot_be_run_fails_the_run_though_the_others_still_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(monkeypatch, "online", [HELD])

    def fail(settings: Settings, rounds: int) -> NoReturn:
        raise HindcastError("no network")

    benchmark(monkeypatch, "training_set", [])
    monkeypatch.setattr(runner.load("training_set"), "run", fail)
    assert runner.main(["training_set", "online"]) == 1
    told = capsys.readouterr()
    assert "bench: training_set: no network" in told.err
    assert "Could not be measured: training_set." in told.out
    assert not (home / "bench" / "training_set.json").exists()
    assert (home / "bench" / "online.json").exists()


def test_an_unknown_name_is_told_with_those_that_there_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["online", "onlin"]) == 1
    told = capsys.readouterr().err
    assert told == f"bench: No benchmark onlin; there are: {', '.join(runner.NAMES)}.\n"
    assert not (home / "bench").exists()


@pytest.mark.parametrize("name", runner.NAMES)
def test_each_benchmark_says_what_it_compares_and_its_bar(name: str) -> None:
    module = runner.load(name)
    assert module.__doc__ and "Bar" in module.__doc__
    assert callable(module.run)


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of cases, where the measuring processes find it."""
    (tmp_path / "cases.py").write_text(
        "def multiplying(factor):\n    return lambda: {'product': factor * 3}\n\n\n"
        "def failing():\n    raise ValueError('no such table')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("cases")
def test_each_measurement_is_taken_in_a_process_of_its_own_and_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    taken = in_turn({"two": Case("cases:multiplying", (2,)), "five": Case("cases:multiplying", (5,))}, rounds=2)
    assert [taken[name].results for name in ("two", "five")] == [[{"product": 6}] * 2, [{"product": 15}] * 2]
    order = [line.split(":")[0].strip(" ·") for line in capsys.readouterr().err.splitlines()]
    assert order == ["1/2 two", "1/2 five", "2/2 two", "2/2 five"]


@pytest.mark.usefixtures("cases")
def test_a_measurement_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"cases:failing failed:[\s\S]*no such table"):
        once(Case("cases:failing"))
