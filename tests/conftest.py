"""What all tests share: no test touches the checkout's own home, and none of the tools phones home."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Set before anything imports `assets`, whose definitions read the home from the environment.
os.environ["HINDCAST_HOME"] = tempfile.mkdtemp(prefix="hindcast-tests-")
# There are as many workers as cores. Threads that wait for a core by spinning would take it from the other worker.
os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1")
atexit.register(shutil.rmtree, os.environ["HINDCAST_HOME"], ignore_errors=True)

import pytest  # noqa: E402

from hindcast.settings import Settings  # noqa: E402

ROOT = Path(__file__).parent.parent


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """This checkout with an empty home of the test's own."""
    return Settings(ROOT, tmp_path / "home")


@contextmanager
def _same_environment_afterwards() -> Iterator[None]:
    """Preparing a home exports where it is to the process; the next test has another home."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="module")
def _environment_of_a_module() -> Iterator[None]:
    with _same_environment_afterwards():
        yield


@pytest.fixture(autouse=True)
def _environment_of_a_test(_environment_of_a_module: None) -> Iterator[None]:
    with _same_environment_afterwards():
        yield
