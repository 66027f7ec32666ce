"""Tests wait as long as something happens, and no longer."""

import subprocess
import sys

import pytest

from tests.patience import lines_of, output_of, wait_for


def start(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-uc", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_slow_process_that_goes_on_writing_is_waited_for() -> None:
    process = start("import time\nfor number in range(8):\n    print(number)\n    time.sleep(0.5)")
    assert "".join(lines_of(process, silence=3.0)).split() == list("01234567")  # in all longer than it may be silent


def test_a_process_that_hangs_is_found_and_killed() -> None:
    process = start("import time\nprint('begun')\ntime.sleep(1000)")
    with pytest.raises(AssertionError, match=r"it hangs.\nbegun"):
        list(lines_of(process, silence=3.0))
    assert process.returncode is not None


def test_the_output_is_there_when_the_process_has_ended() -> None:
    process = start("print('one')\nprint('two')\nraise SystemExit(4)")
    assert (output_of(process), process.returncode) == ("one\ntwo\n", 4)


def test_a_condition_is_waited_for_and_one_that_never_comes_true_is_a_hang() -> None:
    values = iter([0, 0, "there"])
    assert wait_for(lambda: next(values)) == "there"
    with pytest.raises(AssertionError, match="it hangs"):
        wait_for(lambda: False, silence=0.1)


def test_nobody_waits_for_what_has_ended() -> None:
    process = start("raise SystemExit(3)")
    with pytest.raises(AssertionError, match="ended with status 3"):
        wait_for(lambda: False, process)
