"""The service as a process: start it on the loopback address, wait until it answers, stop it, leave no orphan.

How a bento comes to be is in `bento`; what the service does in `bentos/service.py`.
"""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from hindcast.artefacts import read_json
from hindcast.errors import HindcastError
from hindcast.promotion.champion import champion_folder
from hindcast.settings import Settings

MODEL_ALIAS = "champion"
"""By this name the service finds the model that is in its bento."""
PACKAGE = "package"
"""Folder of the package inside the bento's model."""
FIELDS = "request_fields.json"
"""File in the bento: the types of a request's fields, as the lake has them, a real example and candidates for one."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def running(settings: Settings, tag: str, ready_within: float = 600.0) -> Iterator[str]:
    """Serves a bento on a free loopback port while the block runs; gives its URL.

    The server also ends when this process does, however that happens (on Linux; call it from a thread that
    lives as long as the block).

    Args:
        settings: The home that it serves.
        tag: Of a bento in the home's store.
        ready_within: Seconds that it may take to answer; only one that hangs takes so long.

    Raises:
        HindcastError: It ended or wasn't ready in time; with the last lines of its log.
    """
    port = free_port()
    settings.scratch.mkdir(parents=True, exist_ok=True)
    log = settings.scratch / f"service-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hindcast.serving.server", str(os.getpid()), *_command(tag, "127.0.0.1", port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=settings.root,
            env=_environment(settings),
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, log, ready_within)
        yield f"http://127.0.0.1:{port}"
        log.unlink()
    finally:
        _stop(process)


def serve_forever(settings: Settings, host: str, port: int) -> NoReturn:
    """Becomes the server of the champion's bento: signals and the exit status are its own.

    Raises:
        HindcastError: There is no champion, or its bento hasn't been built.
    """
    tag = champion_tag(settings)
    print(f"{tag} on http://{host}:{port} (Ctrl-C ends it)", flush=True)
    command = _command(tag, host, port)
    os.execv(command[0], command)


def is_loopback(host: str) -> bool:
    """Whether a name or address is of this machine alone, as far as it resolves."""
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in found)


def champion_tag(settings: Settings) -> str:
    """Tag of the champion's newest bento, `problem:version-fingerprint`.

    Raises:
        HindcastError: There is no champion, or its bento hasn't been built.
    """
    version = champion_folder(settings).name
    tags = [tag for tag, built in built_bentos(settings).items() if built == version]
    if not tags:
        raise HindcastError(f"The bento of champion {version} hasn't been built: `hindcast run` does.")
    return tags[-1]


def built_bentos(settings: Settings) -> dict[str, str]:
    """The version of the model in each bento that was built to its end, by tag, oldest first."""
    path = settings.built_bentos
    return read_json(path) or {}


def bento_folder(settings: Settings, tag: str) -> Path:
    """Where a bento lies in the home's store."""
    return settings.bento_store / "bentos" / tag.replace(":", "/")


def die_with_parent(parent: int) -> None:
    """Has the kernel end this process when the one that started it is gone, even by `kill -9`. Linux alone can.

    Args:
        parent: Process id of who started this; if it is gone already, this process ends now.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _command(tag: str, host: str, port: int) -> list[str]:
    return [sys.executable, "-m", "bentoml", "serve", tag, "--host", host, "--port", str(port)]


def _environment(settings: Settings) -> dict[str, str]:
    # BentoML leaves folders behind when it is killed: let them lie where they may be deleted.
    return os.environ | settings.environment() | {"TMPDIR": str(settings.scratch), "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise HindcastError(f"The service ended while it started (status {process.returncode}):\n{_tail(log)}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5.0, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise HindcastError(f"The service wasn't ready within {seconds:.0f} s:\n{_tail(log)}")


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, then makes its whole process group end."""
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    # A starter may ignore or block the signal, and who it starts would, too.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
