"""The bento that was built, started as its container would start it: from its own folder, by its own packages alone.

There is no container engine where tests run, so that they do by hand what the Dockerfile says, step by step. Its `pip
install` they can't: a test has no network. The environment is made of the same packages as they are installed here,
file by file, from the same lock.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from packaging.requirements import Requirement

from hindcast.serving.bento import LOCK
from hindcast.serving.server import bento_folder, champion_tag
from hindcast.settings import Settings
from tests.patience import SILENCE, wait_for
from tests.served_world import NOON, served_world
from tests.tiny_model import probability

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
# The pipeline's, not the service's.
ABSENT = {
    "assets",
    "dagster",
    "dbt",
    "duckdb",
    "evidently",
    "hatchling",
    "hindcast",
    "onnx",
    "polars",
    "skl2onnx",
    "sklearn",
    "tests",
}
WATCH = """
import json, os, sys
KEPT = {"open", "os.mkdir", "os.remove", "os.rename", "pickle.find_class", "sqlite3.connect"}
NOTES = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(event, arguments):
    if event in KEPT or event.startswith("socket."):
        kept = [part if isinstance(part, (str, int)) else repr(part) for part in arguments[:3]]
        os.write(NOTES, (json.dumps([event, *kept]) + "\\n").encode())
sys.addaudithook(note)
"""


class Dockerfile:
    """The instructions of a Dockerfile, each with its text on one line."""

    def __init__(self, path: Path) -> None:
        lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)).splitlines()
        self.instructions = [(word, text.strip()) for word, _, text in (line.partition(" ") for line in lines) if word]

    def all(self, word: str) -> list[str]:
        return [text for instruction, text in self.instructions if instruction == word]

    def the(self, word: str) -> str:
        (text,) = self.all(word)
        return text

    @property
    def environment(self) -> dict[str, str]:
        pairs = [pair.partition("=") for text in self.all("ENV") for pair in shlex.split(text)]
        return {name: value for name, _, value in pairs}


@dataclass
class Container:
    """What stands in for a container: folders in the places of its paths, and a server.

    Attributes:
        dockerfile: Of the bento.
        bento: Copy of the bento's folder.
        volume: The home: features, and what is logged.
        tmp: The only other place to write to.
        python: The interpreter whose packages are the bento's.
        notes: What each of its processes did, by Python's audit hooks.
        url: Where it answers.
    """

    dockerfile: Dockerfile
    bento: Path
    volume: Path
    tmp: Path
    python: Path
    notes: Path
    url: str = ""

    def here(self, text: str) -> str:
        """The container's path, or what it says otherwise, as it is here."""
        places = {
            self.dockerfile.the("WORKDIR"): self.bento,
            self.dockerfile.the("VOLUME"): self.volume,
            "/tmp": self.tmp,
        }
        for theirs, ours in places.items():
            if text == theirs or text.startswith(f"{theirs}/"):
                return str(ours) + text.removeprefix(theirs)
        return text

    def noted(self, *events: str) -> list[list[Any]]:
        found = [json.loads(line) for line in self.notes.read_text().splitlines()]
        return [arguments for event, *arguments in found if event in events]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("container")
    home = served_world(tmp_path_factory.mktemp("world"))
    bento = shutil.copytree(bento_folder(home, champion_tag(home)), folder / "bento")
    volume = folder / "volume"
    shutil.copytree(home.feast_registry.parent, volume / "feast")
    shutil.rmtree(home.home)  # from here on there is only what a container has
    tmp = folder / "tmp"
    tmp.mkdir()
    python = environment_of(bento / "src" / LOCK, folder / "environment")
    notes = folder / "notes.jsonl"
    found = Container(Dockerfile(bento / "env" / "docker" / "Dockerfile"), bento, volume, tmp, python, notes)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found.url = f"http://127.0.0.1:{port}"
    environment = {name: found.here(value) for name, value in found.dockerfile.environment.items()}
    environment |= {"PATH": str(python.parent), "TMPDIR": str(tmp), "BENTOML_PORT": str(port)}
    command = [found.here(word) for word in json.loads(found.dockerfile.the("ENTRYPOINT"))]
    health = json.loads(found.dockerfile.the("HEALTHCHECK").partition(" CMD ")[2])
    watch = next(python.parents[1].glob("lib/python*/site-packages"))
    (watch / "watch.py").write_text(WATCH % str(notes))
    (watch / "watch.pth").write_text("import watch\n")
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [python, *command[1:], "--host", "127.0.0.1"],
            cwd=bento, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        check: dict[str, Any] = {"env": environment, "capture_output": True, "check": False}
        wait_for(lambda: subprocess.run([python, *health[1:]], **check).returncode == 0, server)
        yield found
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def environment_of(requirements: Path, folder: Path) -> Path:
    """The interpreter of a new environment with just the packages that a file pins, linked to the ones installed."""
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    for pin in re.findall(r"^[\w.-]+==[^\\\n]+", requirements.read_text(), re.MULTILINE):
        requirement = Requirement(pin)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        installed = metadata.distribution(requirement.name)
        assert installed.version in requirement.specifier
        for file in installed.files or ():
            if ".." not in file.parts:  # neither scripts nor manuals
                source = Path(str(file.locate()))
                link(source, packages / file)
                if source.suffix == ".py":  # compiling them again would take seconds
                    compiled = Path(importlib.util.cache_from_source(str(source)))
                    if compiled.exists():
                        link(compiled, (packages / file).parent / "__pycache__" / compiled.name)
    return folder / "bin" / "python"


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def test_it_answers_from_its_own_folder_and_logs_to_the_volume(container: Container) -> None:
    question = {"parcel": "P1", "depot": 1, "prediction_time": NOON.isoformat(), "request_id": "mine"}
    said = httpx.post(f"{container.url}/predict", json=question, trust_env=False, timeout=SILENCE).json()
    assert said["probability"] == pytest.approx(probability(0.0, 2.0), abs=1e-6)
    assert said["feature_times"] == {"parcels": "2024-05-01T10:00:00+00:00", "depots": "2024-05-01T11:00:00+00:00"}
    assert said["model_version"] == "v1"  # there is no champion.json in the volume: the bento has its own
    files = container.volume.glob("problems/parcels/request_log/*")
    (record,) = [json.loads(line) for file in files for line in file.open()]
    assert (record["id"], record["prediction"]) == ("mine", [said["probability"]])


def test_the_environment_is_what_the_bento_locks_and_nothing_of_the_pipeline(container: Container) -> None:
    requirements = container.bento / "src" / LOCK
    offline = ["--offline", "--python", container.python]
    sync = [UV, "pip", "sync", *offline, "--require-hashes", "--dry-run", requirements]
    done = subprocess.run(sync, capture_output=True, text=True, check=True)
    assert "Would make no changes" in done.stderr
    subprocess.run([UV, "pip", "check", "--python", container.python], capture_output=True, check=True)
    code = f"from importlib.util import find_spec; print([name for name in {sorted(ABSENT)} if find_spec(name)])"
    found = subprocess.run([container.python, "-E", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_it_reads_nothing_of_the_checkout_and_no_pickle(container: Container) -> None:
    opened = {str(path) for path, *_ in container.noted("open")}
    source = container.bento / "src"
    assert {str(source / "service.py"), str(source / "hindcast" / "settings.py")} <= opened
    (installed,) = source.glob("hindcast-*.dist-info/RECORD")  # of the project's wheel
    assert "hindcast/settings.py,sha256=" in installed.read_text()
    assert [path for path in opened if path.startswith(f"{ROOT}/")] == []
    assert container.noted("pickle.find_class") == []  # Feast keeps one of each on-demand view, beside its source


def test_it_writes_to_the_volume_and_to_tmp_alone_and_asks_nobody(container: Container) -> None:
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    places = {path for path, _, flags in container.noted("open") if flags & writing and isinstance(path, str)}
    places |= {path for path, *_ in container.noted("os.mkdir", "os.remove", "os.rename", "sqlite3.connect")}
    assert any(path.startswith(f"{container.volume}/problems/parcels/request_log/") for path in places)
    ours = (f"{container.volume}/", f"{container.tmp}/")
    assert [path for path in places - {os.devnull} if not path.startswith(ours)] == []
    assert list(container.tmp.rglob("*deviceid*")) == []  # what ONNX Runtime leaves behind where it reports
    asked = container.noted("socket.connect", "socket.getaddrinfo", "socket.sendto")
    assert [each for each in asked if "127.0.0.1" not in str(each)] == []  # the health check asks the service


def test_the_dockerfile_installs_the_lock_by_its_hashes(container: Container) -> None:
    dockerfile, requirements = container.dockerfile, (container.bento / "src" / LOCK).read_text()
    version = ".".join(map(str, sys.version_info[:3]))
    assert dockerfile.the("FROM") == f"python:{version}-slim-bookworm"
    install = dockerfile.all("RUN")[0]
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(shlex.split(install))
    assert f"--requirement={dockerfile.the('WORKDIR')}/src/{LOCK}" in shlex.split(install)
    for source in (text.split()[0] for text in dockerfile.all("COPY")):
        assert (container.bento / source).exists()
    assert requirements == (ROOT / "bentos" / "requirements.lock").read_text()


def test_the_container_has_a_plain_user_and_phones_nobody(container: Container, settings: Settings) -> None:
    dockerfile = container.dockerfile
    assert int(dockerfile.the("USER").split(":")[0]) > 0
    assert dockerfile.environment["HINDCAST_HOME"] == dockerfile.the("VOLUME")
    told = {"BENTOML_DO_NOT_TRACK", "DO_NOT_TRACK", "FEAST_USAGE", "ORT_DISABLE_TELEMETRY"}
    assert {name: dockerfile.environment.get(name) for name in told} == {
        name: value for name, value in settings.environment().items() if name in told
    }
