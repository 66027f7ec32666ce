"""`kill -9` of the service under load, twenty times: ten times its worker, which its server starts again, and ten times
the whole server, which is started anew. Two servers share the home and its log, so that both go on at once, and between
kills the log is compacted into the lake while the other server writes to it. Callers who got no answer ask again with
the same `request_id`, as they should.

Bars: after the last compaction, every acknowledged record is in the lake; no record is there twice.
"""

import asyncio
import json
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import psutil

from bench import serving_home
from bench.measure import Row, say
from bench.serving_home import READY_WITHIN
from bench.serving_load import Connection, as_request
from bench.serving_load import run as run_load
from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.serving.request_log import Compaction, compact
from hindcast.settings import Settings

ONCE = "one run"
KILLS = 20
CONNECTIONS = 8
BODIES = 1000
ASKED_BEFORE = 200  # answers in a round before the kill, at the least; then up to half a second more


class Callers:
    """Ask one server, and remember what they were told.

    Attributes:
        acknowledged: Ids of the requests that were answered.
        waiting: Requests without an answer, by id; they are asked again.
        failed: Answers that weren't 200.
    """

    def __init__(self, bodies: list[dict[str, Any]]) -> None:
        self._bodies = bodies
        self.acknowledged: list[str] = []
        self.waiting: dict[str, bytes] = {}
        self.asked_again = self.failed = 0

    async def ask_until_they_die(self, port: int, victims: list[psutil.Process]) -> None:
        """Asks until the connections break, for some time after the beginning these processes are killed.

        Without any, only what waits is asked.
        """
        before = len(self.acknowledged)
        again = list(self.waiting.items())
        self.asked_again += len(again)

        async def keep_asking() -> None:
            connection = Connection(port)
            try:
                while again or victims:
                    identity, request = again.pop() if again else self._new()
                    self.waiting[identity] = request
                    status, body = await connection.ask(request)
                    if status != 200 or json.loads(body)["id"] != identity:
                        self.failed += 1
                        continue
                    self.acknowledged.append(identity)
                    del self.waiting[identity]
            except OSError:
                return
            finally:
                connection.close()

        async def kill() -> None:
            while len(self.acknowledged) < before + ASKED_BEFORE:
                await asyncio.sleep(0.01)
            await asyncio.sleep(random.random() / 2)
            for victim in victims:
                victim.kill()

        await asyncio.wait_for(
            asyncio.gather(*(keep_asking() for _ in range(CONNECTIONS)), *([kill()] if victims else [])), READY_WITHIN
        )

    def _new(self) -> tuple[str, bytes]:
        identity = uuid.uuid4().hex
        body = random.choice(self._bodies) | {"request_id": identity}
        return identity, as_request("/predict", json.dumps(body).encode())


def run(settings: Settings, rounds: int) -> list[Row]:
    source = serving_home.finished(settings)
    home = serving_home.copied(source, "killed")
    bodies = serving_home.requests(source, BODIES)
    key = load_problem(home.problem_file).entity.key
    turn = threading.Lock()
    done: list[Compaction] = []

    def compact_all() -> None:
        with turn:
            done.append(compact(home.request_log, Lake(home), "flight_delay.requests", key))

    crowds = [Callers(bodies), Callers(bodies)]
    with ThreadPoolExecutor(2) as lanes:
        lasting = [
            lanes.submit(kill_workers, home, crowds[0], KILLS // 2, compact_all),
            lanes.submit(kill_servers, home, crowds[1], KILLS - KILLS // 2, compact_all),
        ]
        for lane in lasting:
            lane.result()
    compact_all()
    again = compact(home.request_log, Lake(home), "flight_delay.requests", key)
    with Lake(home).reading() as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM flight_delay.requests").fetchall()]
    acknowledged = [identity for crowd in crowds for identity in crowd.acknowledged]
    waiting = sum(len(crowd.waiting) for crowd in crowds)
    limit: dict[str, Any] = {"unit": "", "peer": 0, "against": "limit", "at_most": 1}
    return [
        Row(
            f"acknowledged records lost, of {len(acknowledged):,}, after {KILLS} kill -9",
            ours=len(set(acknowledged) - set(ids)),
            **limit,
        ),
        Row(f"records twice among the lake's {len(ids):,}", ours=len(ids) - len(set(ids)), **limit),
        Row("rows that a further compaction adds", ours=again.added, **limit),
        Row("answers that weren't right", ours=sum(crowd.failed for crowd in crowds) + waiting, **limit),
        Row("requests asked again after a kill", "", sum(crowd.asked_again for crowd in crowds)),
        Row("of them in the log twice, and once in the lake", "", sum(one.duplicates for one in done)),
        Row("lines that a kill left unfinished", "", again.torn),
    ]


def kill_workers(home: Settings, callers: Callers, kills: int, compact_all: Any) -> None:
    """Kills the worker of one server again and again."""
    with serving_home.served(home) as (port, server):
        for number in range(kills):
            worker = worker_of(server, port)
            run_load(callers.ask_until_they_die(port, [worker]))
            say(f"worker {number + 1}/{kills}: {len(callers.acknowledged):,} acknowledged")
            compact_all()
        worker_of(server, port)
        run_load(callers.ask_until_they_die(port, []))


def kill_servers(home: Settings, callers: Callers, kills: int, compact_all: Any) -> None:
    """Kills one server after the other, each with its worker."""
    for number in range(kills):
        with serving_home.served(home) as (port, server):
            run_load(callers.ask_until_they_die(port, [server, *server.children(recursive=True)]))
            say(f"server {number + 1}/{kills}: {len(callers.acknowledged):,} acknowledged")
        compact_all()
    with serving_home.served(home) as (port, _):
        run_load(callers.ask_until_they_die(port, []))


def worker_of(server: psutil.Process, port: int) -> psutil.Process:
    """The process that answers for a server, as soon as it does.

    Raises:
        HindcastError: There was none in time.
    """
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        with suppress(psutil.Error, httpx.TransportError):  # the killed one may be there yet, as a zombie
            family = server.children(recursive=True)
            workers = [one for one in family if "_bentoml_impl.worker.service" in one.cmdline()]
            answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1.0, trust_env=False)
            if answer.status_code == 200 and len(workers) == 1:
                return workers[0]
        time.sleep(0.1)
    raise HindcastError(f"No worker has come back within {READY_WITHIN:g} s after a kill.")
