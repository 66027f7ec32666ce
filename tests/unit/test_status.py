"""What `hindcast status` says of a home in which little or nothing has run."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hindcast.files import write_atomically
from hindcast.home import prepare
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.status import keep_failure


@pytest.fixture
def home(settings: Settings) -> Settings:
    prepare(settings)
    return settings


def hindcast(home: Settings, *arguments: str) -> str:
    command = str(Path(sys.executable).with_name("hindcast"))
    environment = os.environ | home.environment() | {"PYTHONPATH": str(home.root)}
    done = subprocess.run([command, *arguments], cwd=home.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def made(home: Settings) -> None:
    with Lake(home).writing() as connection:
        connection.execute("CREATE TABLE main.anything AS SELECT 1 AS number")


def test_an_empty_home_is_said_to_be_so(home: Settings) -> None:
    said = hindcast(home, "status")
    assert "This home is empty." in said
    assert "make run" in said
    assert "make serve" not in said


def test_what_stopped_the_main_job(home: Settings) -> None:
    made(home)
    keep_failure(home, "raw/flights: 7 of 9 rows [rejected]")
    said = hindcast(home, "status")
    assert "Stopped   raw/flights: 7 of 9 rows [rejected]" in said
    assert "make run     does what is left" in said
    keep_failure(home, None)
    assert "Stopped" not in hindcast(home, "status")


def test_a_run_that_was_killed_and_one_that_is_at_work(home: Settings) -> None:
    made(home)
    write_atomically(home.turn_holder, "run r1 of job train")
    with home.turn.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = hindcast(home, "status")
        assert "At work   run r1 of job train" in said
        assert "Stopped" not in said
    assert "Stopped   run r1 of job train was killed" in hindcast(home, "status")


def test_the_version(home: Settings) -> None:
    assert hindcast(home, "--version") == "hindcast 0.1.0\n"
