"""The champion over HTTP: routes, limits and words of errors. Answering is `hindcast.serving.answering`'s work.

Started from its bento (`hindcast serve`), or from this folder (`bentoml serve service:Hindcast`).
"""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import NotFound
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hindcast.clock import clock_of
from hindcast.models.champion import champion_folder, current
from hindcast.models.model import SIGNATURE, ServedModel, Signature
from hindcast.problem import load_problem
from hindcast.serving.answering import Champions, Reader, Unavailable, answer
from hindcast.serving.request_form import (
    Answer,
    BatchAnswer,
    Fault,
    Model,
    batch_form,
    explain_faults,
    request_form,
)
from hindcast.serving.request_log import RequestLog
from hindcast.serving.server import MODEL_ALIAS, PACKAGE, TYPES, die_with_parent
from hindcast.settings import Settings

POLL_SECONDS = 0.5
MAX_BODY_BYTES = 1024 * 1024
BATCH_STEP = 64  # rows answered before other requests get their turn

AS_JSON = json.JSONEncoder(separators=(",", ":")).encode

SETTINGS = Settings.from_environment()
LOG = logging.getLogger("bentoml.hindcast")
PROBLEM = load_problem(SETTINGS.problem_file)


def _bundled() -> Path | None:
    try:
        return Path(bentoml.models.get(MODEL_ALIAS).path_of(PACKAGE))
    except NotFound:
        return None  # started from its source


def _signature() -> Signature:
    bundled = _bundled()
    folder = champion_folder(SETTINGS) if bundled is None or current(SETTINGS) else bundled
    return Signature.from_json((folder / SIGNATURE).read_text())


def _types() -> dict[str, str]:
    path = Path(__file__).with_name(TYPES)
    return json.loads(path.read_text()) if path.exists() else {}


def connect(model: ServedModel) -> Reader:
    """The reader of a model's features."""
    from hindcast.features.online import (
        FeatureReader,  # seconds, which the process that only starts the workers can save
    )

    return FeatureReader(SETTINGS, model.signature.feature_service)


RequestForm = request_form(_signature(), _types())
BatchForm = batch_form(RequestForm, PROBLEM.serving.max_batch)


def problem(status: int, title: str, detail: str) -> dict[str, Any]:
    """Problem details (RFC 9457)."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def reply(content: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON answer; problems say so in their media type."""
    kind = "application/json" if status < 400 else "application/problem+json"
    return Response(AS_JSON(content), status, media_type=kind)


async def get_model(request: Request) -> Response:
    return reply(describe(request.app.state.champions))


def describe(champions: Champions) -> dict[str, Any]:
    """What is served, and why not something newer."""
    fields = [name for name in RequestForm.model_fields if name not in ("prediction_time", "request_id")]
    return champions.serving.describe() | {"request_fields": fields, "refused": champions.refused}


GETTABLE = Starlette(routes=[Route("/model", get_model, methods=["GET"])])  # BentoML's own routes take POST alone


@bentoml.asgi_app(GETTABLE)
@bentoml.service(
    name=PROBLEM.name,
    workers=1,
    traffic={"timeout": 30},
    tracing={"excluded_urls": ".*"},
    logging={"access": {"enabled": False}},
)
class Hindcast:
    """Answers by the champion, and logs each request before it answers."""

    def __init__(self) -> None:
        die_with_parent(os.getppid())
        self.champions = GETTABLE.state.champions = Champions(SETTINGS, _bundled(), connect)
        self.log = RequestLog(SETTINGS.request_log)
        self.clock = clock_of(SETTINGS, PROBLEM)
        threading.Thread(target=self._follow_champion, daemon=True).start()

    @bentoml.api(output_spec=Answer)
    async def predict(self, request: RequestForm, /) -> Response:  # type: ignore[valid-type]
        """Probability and decision for one entity, from features as they were known at the prediction time."""
        try:
            (said,) = answer(self.champions.serving, [vars(request)], self.log, self.clock)
        except Unavailable as reason:
            return reply(problem(503, "Not available", str(reason)), 503)
        return reply(said)

    @bentoml.api(output_spec=BatchAnswer)
    async def predict_batch(self, batch: BatchForm, /) -> Response:  # type: ignore[valid-type]
        """As predict, for many: what is wrong with one row leaves the others' answers alone."""
        rows = batch.requests  # type: ignore[attr-defined]
        if len(rows) > PROBLEM.serving.max_batch:
            limit = f"A batch holds at most {PROBLEM.serving.max_batch} requests; this one has {len(rows)}."
            return reply(problem(413, "Too many requests in one batch", limit), 413)
        champion = self.champions.serving  # one model for the whole batch
        answers: list[dict[str, Any]] = [
            problem(400, "Invalid request", row.detail) if isinstance(row, Fault) else {} for row in rows
        ]
        valid = [position for position, row in enumerate(rows) if not isinstance(row, Fault)]
        for start in range(0, len(valid), BATCH_STEP):
            step = valid[start : start + BATCH_STEP]
            try:
                said = answer(champion, [vars(rows[position]) for position in step], self.log, self.clock)
            except Unavailable as reason:
                return reply(problem(503, "Not available", str(reason)), 503)
            for position, one in zip(step, said, strict=True):
                answers[position] = one
            await asyncio.sleep(0)
        return reply({"answers": answers, "failed": len(rows) - len(valid)})

    @bentoml.api(output_spec=Model)
    async def model(self) -> Response:
        """The model that serves; also by GET."""
        return reply(describe(self.champions))

    def _follow_champion(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            before = self.champions.refused
            if self.champions.refresh():
                LOG.info("Now serving %s", self.champions.serving.model.version)
            elif self.champions.refused != before:
                LOG.error("The new champion is refused: %s", self.champions.refused)


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """Refuses bodies that are too large or no JSON, and gives every error the form of problem details.

    It must never raise: BentoML would hold such a request until it times out.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":  # BentoML would read forms, too
            detail = "Send JSON, with the header content-type: application/json."
            await reply(problem(415, "Unsupported Media Type", detail), 415)(scope, receive, send)
            return
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) <= self._max_bytes:
            await self._app(scope, receive, _as_problems(send))
            return
        if not length and b"transfer-encoding" not in headers:
            await self._app(scope, receive, _as_problems(send))
            return
        body = await self._read(receive)
        if body is None:
            detail = f"The body is longer than {self._max_bytes} bytes."
            response = reply(problem(413, "Content Too Large", detail), 413)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return

        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return parts.pop() if parts else await receive()

        await self._app(scope, replay, _as_problems(send))

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or None where it is too long. Reads on a little, so that the caller hears the answer."""
        body, size = bytearray(), 0
        while size <= 8 * self._max_bytes:
            message = await receive()
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._max_bytes:
                body += chunk
            if not message.get("more_body", False):
                break
        return bytes(body) if size <= self._max_bytes else None


def _as_problems(send: Send) -> Send:
    """A `send` that turns errors of BentoML and Starlette into problem details."""
    start: Message | None = None
    body = b""

    async def send_on(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start" and message["status"] >= 400:
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            if kinds != [b"application/problem+json"]:
                start = message
                return
        if start is None:
            await send(message)
            return
        body += message.get("body", b"")
        if not message.get("more_body", False):
            status = start["status"]
            response = reply(problem(status, HTTPStatus(status).phrase, _detail(status, body)), status)
            kept = [pair for pair in start["headers"] if pair[0] not in (b"content-type", b"content-length")]
            await send({**start, "headers": [*kept, *response.raw_headers]})
            await send({"type": "http.response.body", "body": response.body})

    return send_on


def _detail(status: int, body: bytes) -> str:
    if status >= 500:
        return "The service failed; its log says why."
    try:
        content = json.loads(body)
        content = content[0] if isinstance(content, list) else content
        faults = content.get("detail")
        return explain_faults(faults) if isinstance(faults, list) else str(content["error"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return body[:500].decode(errors="replace")


Hindcast.add_asgi_middleware(Guard, max_bytes=MAX_BODY_BYTES)
