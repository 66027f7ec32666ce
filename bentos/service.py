"""The champion over HTTP: its routes. Answering is `hindcast.serving.predict`'s work, refusing `guard`'s.

Started from its bento (`hindcast serve`), or from this folder (`bentoml serve service:Hindcast`).
"""

import asyncio
import gc
import json
import logging
import os
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import NotFound
from connection import limit_connections
from guard import Guard, problem, reply
from lean import trim_bentoml
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hindcast.clock import clock_of
from hindcast.package.model import FEATURES, SIGNATURE, ServedModel, Signature
from hindcast.problem import load_problem
from hindcast.promotion.champion import champion_folder, current
from hindcast.serving.access import known_tokens
from hindcast.serving.openapi import openapi
from hindcast.serving.predict import Champions, Reader, Unavailable, answer, choose_example
from hindcast.serving.request_form import Answer, BatchAnswer, Explained, Fault, batch_form, request_form
from hindcast.serving.request_log import RequestLog
from hindcast.serving.server import FIELDS, MODEL_ALIAS, PACKAGE, die_with_parent
from hindcast.serving.shadow import Shadow
from hindcast.settings import Settings

POLL_SECONDS = 0.5
BATCH_STEP = 64  # rows answered before other requests get their turn
OTHER_PATHS = ("", "/docs.json", "/schema.json", "/livez", "/readyz", "/healthz", "/metrics")  # that aren't described

SETTINGS = Settings.from_environment()
LOG = logging.getLogger("bentoml.hindcast")
PROBLEM = load_problem(SETTINGS.problem_file)
TIMEOUT = PROBLEM.serving.timeout.total_seconds()
TOKENS = known_tokens(os.environ)


def _bundled() -> Path | None:
    try:
        return Path(bentoml.models.get(MODEL_ALIAS).path_of(PACKAGE))
    except NotFound:
        return None  # started from its source


def _signature() -> Signature:
    bundled = _bundled()
    folder = champion_folder(SETTINGS) if bundled is None or current(SETTINGS) else bundled
    return Signature.from_json((folder / SIGNATURE).read_text())


def _fields() -> dict[str, dict[str, Any]]:
    path = Path(__file__).with_name(FIELDS)
    return json.loads(path.read_text()) if path.exists() else {"types": {}, "example": {}, "candidates": []}


def connect(model: ServedModel) -> Reader:
    """The reader of a model's features."""
    from hindcast.features.online import (
        FeatureReader,  # seconds, which the process that only starts the workers can save
    )

    registry = model.folder / FEATURES  # as the features were defined when the model was trained on them
    return FeatureReader(SETTINGS, model.signature.feature_service, registry if registry.exists() else None)


@lru_cache(maxsize=1)
def describe(example: str) -> dict[str, Any]:
    """The OpenAPI document, with an example (JSON)."""
    one = request_form(SIGNED, FIELDS_OF_A_REQUEST["types"], json.loads(example))
    return openapi(PROBLEM, one, batch_form(one, PROBLEM.serving.max_batch), with_tokens=bool(TOKENS))


SIGNED, FIELDS_OF_A_REQUEST = _signature(), _fields()
RequestForm = request_form(SIGNED, FIELDS_OF_A_REQUEST["types"])
BatchForm = batch_form(RequestForm, PROBLEM.serving.max_batch)
DESCRIPTION = describe("{}")


async def get_model(request: Request) -> Response:
    """What is served, why not something newer, and who is asked beside it."""
    champions, shadow = request.app.state.champions, request.app.state.shadow.describe()
    fields = [name for name in RequestForm.model_fields if name not in ("prediction_time", "request_id")]
    more = {
        "request_fields": fields,
        "refused": told(champions.refused),
        "shadow": shadow and shadow | {"failure": told(shadow["failure"])},
    }
    return reply(champions.serving.describe() | more)


async def get_description(request: Request) -> Response:
    """The description, with an example that can be asked as the online store is filled now."""
    reader = request.app.state.champions.serving.reader
    example = choose_example(FIELDS_OF_A_REQUEST["candidates"], reader) or FIELDS_OF_A_REQUEST["example"]
    return reply(describe(json.dumps(example)))


def told(reason: str | None) -> str | None:
    """What callers may hear of a reason: not where on this machine things lie."""
    return reason and reason.replace(f"{SETTINGS.home}/", "").replace(f"{SETTINGS.root}/", "")


def unavailable(reason: Unavailable) -> Response:
    LOG.error("Not available: %s", reason)
    return reply(problem(503, "Service Unavailable", str(told(str(reason)))), 503)


def is_news(record: logging.LogRecord) -> bool:
    """Whether the service's log should have it. What breaks the form is told to the caller, all of it."""
    return not (record.exc_info and isinstance(record.exc_info[1], ValidationError))


logging.getLogger("bentoml._internal.server.http_app").addFilter(is_news)
limit_connections(frozenset({*DESCRIPTION["paths"], *OTHER_PATHS}), TIMEOUT)
trim_bentoml()
# BentoML's own routes take POST alone.
GETTABLE = Starlette(routes=[Route("/model", get_model), Route("/docs.json", get_description)])


@bentoml.asgi_app(GETTABLE)
@bentoml.service(
    name=PROBLEM.name,
    workers=1,
    logging={"access": {"enabled": False}},
)
class Hindcast:
    """Answers by the champion, and logs each request before it answers."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge  # not before BentoML has said where workers keep their counts

        die_with_parent(os.getppid())
        self.swapped = Counter("hindcast_champions_swapped", "New champions taken since the start.")
        self.refused = Gauge(
            "hindcast_champion_refused", "1 while a newer champion isn't served.", multiprocess_mode="livemax"
        )
        self.refused.set(0)
        self.champions = GETTABLE.state.champions = Champions(SETTINGS, _bundled(), connect)
        self.log = RequestLog(SETTINGS.request_log, PROBLEM.serving.log_file_bytes)
        self.clock = clock_of(SETTINGS, PROBLEM)
        self.shadow = GETTABLE.state.shadow = Shadow(SETTINGS, connect, self.clock)
        self.shadow.refresh()
        for name in ("predict", "explain", "predict_batch"):
            vars(self)[name] = getattr(self, name)  # else BentoML looks at their signatures for every request
        gc.collect()
        gc.freeze()  # what was loaded stays: it needn't be looked through again and again
        threading.Thread(target=self._follow_champion, daemon=True).start()

    @bentoml.api(output_spec=Answer)
    async def predict(self, request: RequestForm, /) -> Response:  # type: ignore[valid-type]
        """Probability and decision for one entity, from features as they were known at the prediction time."""
        try:
            (said,) = answer(self.champions.serving, [vars(request)], self.log, self.clock)
        except Unavailable as reason:
            return unavailable(reason)
        self.shadow.offer([vars(request)], [said])
        return reply(said)

    @bentoml.api(output_spec=Explained)
    async def explain(self, request: RequestForm, /) -> Response:  # type: ignore[valid-type]
        """As predict, with what each feature adds to the raw score of the model that answers."""
        try:
            (said,) = answer(self.champions.serving, [vars(request)], self.log, self.clock, explained=True)
        except Unavailable as reason:
            return unavailable(reason)
        self.shadow.offer([vars(request)], [said])
        return reply(said)

    @bentoml.api(output_spec=BatchAnswer)
    async def predict_batch(self, batch: BatchForm, /) -> Response:  # type: ignore[valid-type]
        """As predict, for many: what is wrong with one row leaves the others' answers alone."""
        rows = batch.requests  # type: ignore[attr-defined]
        if len(rows) > PROBLEM.serving.max_batch:
            limit = f"A batch holds at most {PROBLEM.serving.max_batch} requests; this one has {len(rows)}."
            return reply(problem(413, "Content Too Large", limit), 413)
        champion = self.champions.serving  # one model for the whole batch
        answers: list[dict[str, Any]] = [
            problem(400, "Bad Request", row.detail) if isinstance(row, Fault) else {} for row in rows
        ]
        valid = [position for position, row in enumerate(rows) if not isinstance(row, Fault)]
        for start in range(0, len(valid), BATCH_STEP):
            step = valid[start : start + BATCH_STEP]
            requests = [vars(rows[position]) for position in step]
            try:
                said = answer(champion, requests, self.log, self.clock)
            except Unavailable as reason:
                return unavailable(reason)
            self.shadow.offer(requests, said)
            for position, one in zip(step, said, strict=True):
                answers[position] = one
            await asyncio.sleep(0)
        return reply({"answers": answers, "failed": len(rows) - len(valid)})

    def _follow_champion(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            before = self.champions.refused
            if self.champions.refresh():
                self.swapped.inc()
                LOG.info("Now serving %s", self.champions.serving.model.version)
            elif self.champions.refused != before:
                LOG.error("The new champion is refused: %s", self.champions.refused)
            self.refused.set(self.champions.refused is not None)
            self.shadow.refresh()


Hindcast.add_asgi_middleware(
    Guard,
    tokens=TOKENS,
    max_bytes=PROBLEM.serving.max_body_bytes,
    max_concurrency=PROBLEM.serving.max_concurrency,
    seconds=TIMEOUT,
    page=Path(__file__).with_name("page.html").read_bytes(),
)
