"""Load on a server of this machine: connections that are kept alive, asked one after the other or at given instants.

Bounded in count and time. Imports nothing but the standard library and uvloop: it shares the machine with the server.
"""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

PACED_CONNECTIONS = 60  # the service takes 64 requests at once


class Connection:
    """One connection to a port of this machine, opened when it is first used."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            OSError: The connection failed, or was closed before the whole answer was there.
        """
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
            return int(head[9:12]), await reader.readexactly(int(length))
        except (OSError, EOFError) as error:
            self.close()
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def as_request(path: str, body: bytes) -> bytes:
    """A POST of JSON, as it goes over the connection."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def run(load: Coroutine[Any, Any, Any]) -> Any:
    """Runs a load to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


def closed(port: int, path: str, bodies: str, count: int, connections: int) -> Callable[[], dict[str, float]]:
    """Asks `count` times, each connection as soon as it has its answer; requests per second, and how many failed."""
    requests = _requests(path, bodies)

    async def load() -> dict[str, float]:
        left, failed = iter(range(count)), 0

        async def keep_asking() -> None:
            nonlocal failed
            connection = Connection(port)
            for number in left:
                try:
                    failed += (await connection.ask(requests[number % len(requests)]))[0] != 200
                except OSError:
                    failed += 1
            connection.close()

        began = time.monotonic()
        await asyncio.gather(*(keep_asking() for _ in range(connections)))
        return {"per_second": count / (time.monotonic() - began), "failed": failed}

    return lambda: run(load())


def paced(port: int, path: str, bodies: str, rate: float, seconds: float) -> Callable[[], dict[str, float]]:
    """Asks at random instants (Poisson), whether or not earlier answers are there.

    Latency counts from the instant at which a request was to be sent, so none is spared by one that is late.
    """
    requests = itertools.cycle(_requests(path, bodies))
    chance = random.Random(13)

    async def load() -> dict[str, float]:
        free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for _ in range(PACED_CONNECTIONS):
            free.put_nowait(Connection(port))
        milliseconds: list[float] = []
        failed = 0

        async def ask(due: float, request: bytes) -> None:
            nonlocal failed
            connection = await free.get()
            try:
                failed += (await connection.ask(request))[0] != 200
            except OSError:
                failed += 1
            milliseconds.append(1e3 * (time.monotonic() - due))
            free.put_nowait(connection)

        tasks = []
        due = began = time.monotonic()
        while (due := due + chance.expovariate(rate)) < began + seconds:
            await asyncio.sleep(due - time.monotonic())
            tasks.append(asyncio.create_task(ask(due, next(requests))))
        await asyncio.gather(*tasks)
        cuts = statistics.quantiles(milliseconds, n=100)
        return {"p50": cuts[49], "p99": cuts[98], "failed": failed, "count": len(milliseconds)}

    return lambda: run(load())


def _requests(path: str, bodies: str) -> list[bytes]:
    return [as_request(path, line) for line in Path(bodies).read_bytes().splitlines()]
