"""A minute of load on the service while the champion changes: ten promotions, two rollbacks, and a package that
predicts otherwise than when it was packaged. Load: 8 kept-alive connections, each asking as soon as it has its answer.

Bars: no request fails; every answer names a version that was the champion while the request was under way or up to a
second before (a package that the service must refuse never counts as one: the champion before it stays); each change is
in an answer within a second after the call that made it began; the bad package is refused, and `/model` says why.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from bench import serving_home
from bench.measure import Row, say
from bench.serving_load import Connection, as_request
from bench.serving_load import run as run_load
from hindcast.package.model import CHECKSUMS, METADATA, SAMPLE
from hindcast.promotion import champion
from hindcast.settings import Settings

ONCE = "one run"
SECONDS, FIRST_AFTER = 60.0, 4.0
CONNECTIONS = 8
BODIES = 1000
PROMOTE, ROLL_BACK, BREAK = "promote", "roll back", "break"
CHANGES = [*[PROMOTE] * 4, ROLL_BACK, *[PROMOTE] * 3, BREAK, PROMOTE, PROMOTE, ROLL_BACK, PROMOTE]
SEEN_WITHIN = 1.0


@dataclass(frozen=True)
class Change:
    """A version that came into use between two instants (monotonic seconds): a call's beginning and its return."""

    version: str
    began: float
    done: float


@dataclass(frozen=True)
class Answer:
    """Who answered a request, and between which instants it was under way."""

    version: str
    sent: float
    received: float


def run(settings: Settings, rounds: int) -> list[Row]:
    source = serving_home.finished(settings)
    home = serving_home.copied(source, "swapped")
    bodies = serving_home.requests(source, BODIES)
    entry = champion.current(home)
    assert entry is not None
    first, verdict = entry["version"], Path(entry["verdict"])
    packages = [_variant(home, first, f"{first}-{number}") for number in range(CHANGES.count(PROMOTE))]
    broken = _variant(home, first, f"{first}-broken", predicts_otherwise=True)

    def promote(version: str) -> dict[str, Any]:
        return champion.promote(home, version, datetime.now(UTC), verdict)

    new = iter(packages)
    refusals: list[str] = []
    with serving_home.served(home) as (port, _):

        def put_broken_in_use() -> dict[str, Any]:
            entry = promote(broken)
            refusals.append(_wait_for_a_refusal(port))
            return entry

        calls: dict[str, Callable[[], dict[str, Any]]] = {
            PROMOTE: lambda: promote(next(new)),
            ROLL_BACK: lambda: champion.roll_back(home, datetime.now(UTC)),
            BREAK: put_broken_in_use,
        }
        answers, changes, failed = run_load(_load(port, bodies, first, calls))
    in_use = [change for change in changes if change.version != broken]
    delays = [seen(change, following, answers) for change, following in zip(in_use, [*in_use[1:], None], strict=True)]
    shown = sum(delay is not None and delay <= SEEN_WITHIN for delay in delays[1:])
    longest = max((delay for delay in delays[1:] if delay is not None), default=float("inf"))
    made = len(in_use) - 1
    return [
        Row(f"failed of {len(answers) + failed:,} requests in {SECONDS:g} s", "", failed, 0, "limit", at_most=1),
        Row("answers by a version not in use", "", wrong(answers, in_use), 0, "limit", at_most=1),
        Row("answers by the broken package", "", sum(a.version == broken for a in answers), 0, "limit", at_most=1),
        Row("changes seen within a second", "", shown, made, "made", at_least=1),
        Row("slowest change seen after", "s", longest, SEEN_WITHIN, "limit", at_most=1),
        Row(
            "refusals of the broken package",
            "",
            sum("predicts otherwise" in r for r in refusals),
            1,
            "made",
            at_least=1,
        ),
    ]


async def _load(
    port: int, bodies: list[dict[str, Any]], first: str, calls: dict[str, Callable[[], dict[str, Any]]]
) -> tuple[list[Answer], list[Change], int]:
    """Asks and changes; the answers in the order of receipt, the changes with the version in use at the beginning."""
    requests = [as_request("/predict", json.dumps(body).encode()) for body in bodies]
    answers: list[Answer] = []
    failed = 0
    began = time.monotonic()

    async def keep_asking(start: int) -> None:
        nonlocal failed
        connection, number = Connection(port), start
        while (sent := time.monotonic()) < began + SECONDS:
            try:
                status, body = await connection.ask(requests[number % len(requests)])
            except OSError:
                status, body = 0, b""
            if status == 200:
                answers.append(Answer(json.loads(body)["model_version"], sent, time.monotonic()))
            else:
                failed += 1
            number += 1
        connection.close()

    async def keep_changing() -> list[Change]:
        changes = [Change(first, 0.0, began)]
        step = (SECONDS - 2 * FIRST_AFTER) / (len(CHANGES) - 1)
        for number, kind in enumerate(CHANGES):
            await asyncio.sleep(began + FIRST_AFTER + number * step - time.monotonic())
            called = time.monotonic()
            version = (await asyncio.to_thread(calls[kind]))["version"]
            changes.append(Change(version, called, time.monotonic()))
            say(f"{called - began:4.1f} s: {kind}, {version}")
        return changes

    changing = asyncio.create_task(keep_changing())
    await asyncio.gather(*(keep_asking(number * 100) for number in range(CONNECTIONS)))
    return answers, await changing, failed


def wrong(answers: list[Answer], in_use: list[Change]) -> int:
    """Answers by a version that wasn't in use at any instant from a second before they were asked for until receipt."""
    ends = [change.done for change in in_use[1:]] + [float("inf")]
    return sum(
        not any(
            change.version == answer.version and change.began <= answer.received and end >= answer.sent - SEEN_WITHIN
            for change, end in zip(in_use, ends, strict=True)
        )
        for answer in answers
    )


def seen(change: Change, following: Change | None, answers: list[Answer]) -> float | None:
    """Seconds from the call to the first answer by its version, or None where none came before the next change."""
    until = following.began if following else float("inf")
    times = (a.received for a in answers if a.version == change.version and change.began < a.received < until)
    received = next(times, None)
    return None if received is None else received - change.began


def _wait_for_a_refusal(port: int) -> str:
    """Why the service says that it serves no newer champion; empty where it doesn't say so within 3 s."""
    deadline = time.monotonic() + 3 * SEEN_WITHIN
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            if refused := client.get(f"http://127.0.0.1:{port}/model").json()["refused"]:
                return str(refused)
            time.sleep(0.1)
    return ""


def _variant(home: Settings, version: str, name: str, predicts_otherwise: bool = False) -> str:
    """A whole package of another name, of the same model."""
    folder = home.models / name
    shutil.copytree(home.models / version, folder)
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps(metadata | {"version": name}))
    if predicts_otherwise:
        sample = json.loads((folder / SAMPLE).read_text())
        sample["predictions"] = [[1 - each for each in row] for row in sample["predictions"]]
        (folder / SAMPLE).write_text(json.dumps(sample))
    checksums = json.loads((folder / CHECKSUMS).read_text())
    new = {file: sha256((folder / file).read_bytes()).hexdigest() for file in checksums}
    (folder / CHECKSUMS).write_text(json.dumps(new))
    return name
