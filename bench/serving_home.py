"""What the benchmarks of the service stand on: a home in which the main job has run, copies of it that may be asked and
promoted in, requests that people could send, and servers as processes. The user's own home is neither read nor written.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from bench.measure import say
from hindcast.clock import clock_of
from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.package.model import SIGNATURE, Signature
from hindcast.problem import load_problem
from hindcast.promotion import champion
from hindcast.serving.server import champion_tag, running
from hindcast.settings import Settings

READY_WITHIN = 180.0


@cache
def finished(settings: Settings) -> Settings:
    """The home in which the main job has run; it does only what has changed since.

    Raises:
        HindcastError: The job failed.
    """
    home = replace(settings, home=settings.benchmarks / "serving_home")
    say(f"the main job, in {home.home}")
    done = subprocess.run([sys.executable, "-m", "assets.run"], env=os.environ | home.environment(), stdout=sys.stderr)
    if done.returncode:
        raise HindcastError("The main job failed; what went wrong is said above.")
    return home


def copied(source: Settings, name: str) -> Settings:
    """A new home with the champion, the bentos and the online features of another, and an empty lake and log."""
    home = replace(source, home=source.home.with_name(f"serving_{name}"))
    shutil.rmtree(home.home, ignore_errors=True)
    home.home.mkdir(parents=True)
    entry = champion.current(source)
    assert entry is not None
    shutil.copytree(source.models / entry["version"], home.models / entry["version"])
    shutil.copytree(source.online_store.parent, home.online_store.parent)
    shutil.copytree(source.clock_file("flights").parent, home.clock_file("flights").parent)
    home.bento_store.symlink_to(source.bento_store)
    home.duckdb_extensions.symlink_to(source.duckdb_extensions)
    champion.promote(home, entry["version"], datetime.fromisoformat(entry["promoted_at"]), Path(entry["verdict"]))
    return home


def requests(source: Settings, count: int) -> list[dict[str, Any]]:
    """Bodies for `/predict`: entities around the clock's instant, asked about at that instant."""
    problem = load_problem(source.problem_file)
    signature = Signature.from_json((champion.champion_folder(source) / SIGNATURE).read_text())
    now, at = clock_of(source, problem).now(), f'"{problem.prediction_time.column}"'
    fields = dict.fromkeys((signature.entity_key, *signature.join_keys, *signature.request_fields))
    columns = ", ".join(f'"{name}"' for name in fields)
    with Lake(source).reading() as connection:
        found = connection.execute(
            f"SELECT {columns} FROM {problem.labeled_table} ORDER BY abs(epoch({at}) - epoch(?)), {columns} LIMIT ?",
            [now.replace(tzinfo=None), count],
        ).to_arrow_table()
    return [row | {"prediction_time": now.isoformat()} for row in found.to_pylist()]


@contextmanager
def served(settings: Settings) -> Iterator[tuple[int, psutil.Process]]:
    """The champion's bento on a loopback port, as `hindcast serve` would; gives the port and the server's process."""
    with running(settings, champion_tag(settings), READY_WITHIN) as url:
        port = int(url.rsplit(":", 1)[1])
        (server,) = (one for one in psutil.Process().children() if str(port) in one.cmdline())
        yield port, server


@contextmanager
def started(settings: Settings, *command: str, **environment: str | None) -> Iterator[tuple[int, psutil.Process]]:
    """A peer on a loopback port; `{port}` stands for it in the command, which is Python's.

    Args:
        settings: Of the home that it is to find.
        command: What Python is to run.
        environment: Variables besides; None takes one away.

    Raises:
        HindcastError: It ended, or didn't listen in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = settings.home / f"{port}.log"
    variables = os.environ | settings.environment() | environment
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=settings.root,
            env={name: value for name, value in variables.items() if value is not None},
            start_new_session=True,
        )
    server = psutil.Process(process.pid)
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise HindcastError(f"{command} doesn't serve:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield port, server
    finally:
        family = [*server.children(recursive=True), server] if process.poll() is None else []
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def _is_ready(port: int) -> bool:
    """Whether it answers at all; BentoML says so itself, and is asked, for its worker listens before it has begun."""
    import httpx

    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5.0, trust_env=False).status_code != 503
    return False


def cpu(server: psutil.Process) -> float:
    """CPU seconds, user and system, of a server and all its workers."""
    times = [one.cpu_times() for one in (server, *server.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def write_lines(path: Path, bodies: list[dict[str, Any]]) -> str:
    """Keeps bodies for a load: one JSON object a line."""
    path.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    return str(path)
