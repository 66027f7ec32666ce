"""Time goes by, step by step: features become known, and real entities come as requests, each at its own moment.

Moving the clock and bringing the data in is done before; what a server does with a request is in `predict`.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import numpy as np

from hindcast.artefacts import write_json
from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.serving.request_log import REQUESTS, logged_ids
from hindcast.settings import Settings
from hindcast.sql import identifier, identifiers, without_zone
from hindcast.tables.labels import entities_as_known

_NAMESPACE = uuid.UUID("6f1c2b0e-6f0c-5c64-9a3b-0d1f7b8a5e21")
_WORKERS = 4


@dataclass(frozen=True)
class Replay:
    """What was asked of a server in a stretch of simulated time.

    Attributes:
        model_version: Who answered.
        starts_at: First instant (UTC, ISO 8601): when the model was made.
        ends_at: Last instant, excluded.
        sent: Entities whose prediction time lies in it, each sent once, now or in an earlier, broken-off replay.
        already: Those of an earlier one.
        answered: Answers of now.
        failed: Requests of now without an answer.
        p50_ms: Median time from request to answer, as the caller sees it; None where nothing was asked.
        p99_ms: 99th percentile of the same.
        failure: What the first failed request was told.
        refused: Requests of now about what is in no table, which the problem has refused. A later replay asks again.
    """

    model_version: str
    starts_at: str
    ends_at: str
    sent: int
    already: int
    answered: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    failure: str | None
    refused: int = 0


def replay_requests(
    settings: Settings,
    problem: Problem,
    lake: Lake,
    url: str,
    starts_at: datetime,
    ends_at: datetime,
    refresh_every: timedelta,
    materialise: Callable[[datetime | None, datetime], Any],
    on_progress: Callable[[str], None] = lambda text: None,
) -> Replay:
    """Sends the entities of a stretch of time to a server, each at its prediction time.

    Before each step, the online store is brought to the step's beginning (afresh at first, for it may have been
    further): no answer can rest on what became known later. In the end it is brought to `ends_at`.

    A request's id follows from entity, prediction time and model, and what is logged already isn't sent again:
    a replay that was killed goes on where it broke off.

    Args:
        settings: The home; its `replay_file` gets the outcome.
        problem: Names the labeled table, its key and its prediction time.
        lake: Holds the entities.
        url: Of the server, which must serve this home.
        starts_at: Where simulated time begins (UTC). A model that was made later is asked from then on.
        ends_at: Excluded; nothing after it is asked.
        refresh_every: Length of a step.
        materialise: Adds to the online store what became known from `start` to `end`; None fills it afresh.
        on_progress: Told once a day of simulated time how far it is.

    Raises:
        HindcastError: The server can't be reached.
    """
    with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        try:
            described = client.get("/model").raise_for_status().json()
        except httpx.HTTPError as error:
            raise HindcastError(f"The server at {url} doesn't say what it serves: {error}.") from error
        version, fields = described["version"], described["request_fields"]
        if described["as_of"] is not None:
            starts_at = max(starts_at, datetime.fromisoformat(described["as_of"]))
        entities = _entities(problem, lake, fields, starts_at, ends_at)
        logged = logged_ids(settings.request_log, lake, problem.table(REQUESTS))
        waiting = [entity for entity in entities if _request_id(problem, entity, version) not in logged]
        outcomes = _Outcomes(refuses=problem.serving.unknown_entity == "refuse")
        filled: datetime | None = None
        told: date | None = None
        try:
            with ThreadPoolExecutor(_WORKERS) as workers:
                for step, rows in _steps(problem, waiting, starts_at, refresh_every):
                    materialise(filled, step)
                    filled = step
                    bodies = [_body(problem, row, fields, version) for row in rows]
                    list(workers.map(lambda body: outcomes.add(client, body), bodies))
                    if step.date() != told:
                        on_progress(f"{step:%Y-%m-%d}: {outcomes.answered:,} of {len(waiting):,} requests answered")
                        told = step.date()
        finally:
            materialise(filled, ends_at)  # other problems may read the same views
    result = Replay(
        version,
        starts_at.isoformat(),
        ends_at.isoformat(),
        len(entities),
        len(entities) - len(waiting),
        outcomes.answered,
        len(outcomes.failures),
        *outcomes.percentiles(),
        outcomes.failures[0] if outcomes.failures else None,
        outcomes.refused,
    )
    write_json(settings.replay_file, asdict(result))
    return result


def _entities(
    problem: Problem, lake: Lake, fields: Iterable[str], starts_at: datetime, ends_at: datetime
) -> list[dict[str, Any]]:
    """Request fields and prediction time (aware, UTC) of the entities that are asked about in [start, end)."""
    moment, at = problem.prediction_time.column, identifier(problem.prediction_time.column)
    names = list(dict.fromkeys((*fields, problem.entity.key, moment)))
    with lake.reading() as connection:
        rows = connection.execute(
            f"SELECT {identifiers(names)} FROM {entities_as_known(connection, problem)} "
            f"WHERE {at} >= ? AND {at} < ? ORDER BY {at}, {identifier(problem.entity.key)}",
            [without_zone(starts_at), without_zone(ends_at)],
        ).fetchall()
    entities = [dict(zip(names, row, strict=True)) for row in rows]
    return [entity | {moment: entity[moment].replace(tzinfo=UTC)} for entity in entities]


def _steps(
    problem: Problem, entities: list[dict[str, Any]], starts_at: datetime, length: timedelta
) -> Iterable[tuple[datetime, list[dict[str, Any]]]]:
    """The entities by the step that their prediction time lies in, with its beginning; empty steps are left out."""
    steps: dict[datetime, list[dict[str, Any]]] = {}
    for entity in entities:
        passed = (entity[problem.prediction_time.column] - starts_at) // length
        steps.setdefault(starts_at + passed * length, []).append(entity)
    return steps.items()


def _request_id(problem: Problem, entity: dict[str, Any], version: str) -> str:
    moment = entity[problem.prediction_time.column].isoformat()
    return uuid.uuid5(_NAMESPACE, f"{entity[problem.entity.key]}\0{moment}\0{version}").hex


def _body(problem: Problem, entity: dict[str, Any], fields: Iterable[str], version: str) -> dict[str, Any]:
    return {name: entity[name] for name in fields} | {
        "prediction_time": entity[problem.prediction_time.column].isoformat(),
        "request_id": _request_id(problem, entity, version),
    }


class _Outcomes:
    """What came of the requests, from several threads."""

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses
        self.answered = self.refused = 0
        self.failures: list[str] = []
        self._milliseconds: list[float] = []
        self._lock = threading.Lock()

    def add(self, client: httpx.Client, body: dict[str, Any]) -> None:
        began, refused = time.perf_counter(), False
        try:
            response = client.post("/predict", json=body)
            refused = self._refuses and response.status_code == 404
            failure = None if response.status_code == 200 else f"status {response.status_code}: {response.text[:500]}"
        except httpx.TransportError as error:
            failure = f"{type(error).__name__}: {error}"
        took = (time.perf_counter() - began) * 1000
        with self._lock:
            if refused:
                self.refused += 1
            elif failure is None:
                self.answered += 1
                self._milliseconds.append(took)
            else:
                self.failures.append(failure)

    def percentiles(self) -> tuple[float | None, float | None]:
        if not self._milliseconds:
            return None, None
        p50, p99 = np.percentile(self._milliseconds, [50, 99])
        return round(float(p50), 3), round(float(p99), 3)
