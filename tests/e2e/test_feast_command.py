"""Feast's own command on the feature repository, as its users know it: told nothing but which home."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from hindcast.features.online import FeatureReader
from hindcast.settings import Settings
from tests.feature_world import at, make_world
from tests.patience import SILENCE, wait_for
from tests.redis_server import free_port


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A checkout with tables, registered by Feast's command."""
    settings = make_world(tmp_path_factory.mktemp("world"))
    before = _files(settings.root)
    feast(settings, "apply")
    assert _files(settings.root) == before  # all that it writes is in the home
    return settings


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def command(settings: Settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """What to run, and an environment that says where the home is; the user's own home is empty."""
    user = settings.home.parent / "user"
    user.mkdir(exist_ok=True)
    told = {"HINDCAST_HOME": str(settings.home), "HOME": str(user), "PATH": os.defpath}
    return [str(Path(sys.executable).with_name("feast")), *arguments], told


def feast(settings: Settings, *arguments: str) -> str:
    words, environment = command(settings, *arguments)
    done = subprocess.run(
        words, cwd=settings.feature_repo, env=environment, capture_output=True, text=True, timeout=SILENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def feast_ui(settings: Settings) -> Iterator[httpx.Client]:
    port = free_port()
    words, environment = command(settings, "ui", "--host", "127.0.0.1", "--port", str(port))
    with (
        (settings.home.parent / "ui.log").open("w") as log,
        subprocess.Popen(words, cwd=settings.feature_repo, env=environment, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SILENCE) as client,
    ):
        try:
            wait_for(lambda: _answers(client), process)
            yield client
        finally:
            process.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/projects-list.json").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_feast_describes_and_materialises_what_hindcast_then_serves(world: Settings) -> None:
    before = _files(world.root)
    described = yaml.safe_load(feast(world, "feature-services", "describe", "floods"))
    assert [view["featureViewName"] for view in described["spec"]["features"]] == ["levels", "rivers", "flow", "moon"]
    feast(world, "materialize", "2019-01-01T00:00:00", "2020-01-05T10:00:00")
    found = FeatureReader(world, "floods").read([{"gauge": "A", "river_id": 1, "reach": 4}], [at("05 10:00")])
    assert {name: column[0] for name, column in found.values.items()} == {
        "level": 31,
        "state": "high",
        "boats": None,
        "share": 31 * 4 / 120,
        "dry": 0,
        "phase": 0.25,
    }
    assert _files(world.root) == before


def test_feasts_ui_shows_the_registry(world: Settings) -> None:
    with feast_ui(world) as client:
        page = client.get("/")
        views = client.get("/api/v1/feature_views", params={"project": "hindcast"}).json()["featureViews"]
        services = client.get("/api/v1/feature_services", params={"project": "hindcast"}).json()["featureServices"]
    assert page.headers["content-type"].startswith("text/html")
    assert {view["spec"]["name"] for view in views} == {"levels", "rivers", "moon", "flow"}
    assert [service["spec"]["name"] for service in services] == ["floods"]
