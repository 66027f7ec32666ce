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
from guard import Guard, problem_details, refuse, reply
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hindcast.clock import clock_of
from hindcast.package.model import FEATURES, SIGNATURE, ServedModel, Signature
from hindcast.problem import load_problem
from hindcast.promotion.champion import champion_folder, current
from hindcast.serving.access import known_tokens
from hindcast.serving.demands import Demands, Refused
from hindcast.serving.openapi import openapi
from hindcast.serving.predict import Champions, Reader, Unavailable, answer, choose_example
from hindcast.serving.request_form import Fault, batch_form, form_errors, request_form
from hindcast.serving.request_log import RequestLog
from hindcast.serving.server import FIELDS, MODEL_ALIAS, PACKAGE, die_with_parent
from hindcast.serving.shadow import Shadow
from hindcast.settings import Settings

POLL_SECONDS = 0.5
BATCH_STEP = 64  # rows answered before other requests get their turn
HERE = Path(__file__).parent

SETTINGS = Settings.from_environment()
LOG = logging.getLogger("bentoml.hindcast")
PROBLEM = load_problem(SETTINGS.problem_file)
TIMEOUT = PROBLEM.serving.timeout.total_seconds()
TOKENS = known_tokens(os.environ)
SWAPPED = Counter("hindcast_champions_swapped", "New champions taken since the start.")
REFUSED = Gauge("hindcast_champion_refused", "1 while a newer champion isn't served.")

# The pages ask only the service that they came from, and no other site may frame them. The first loads nothing, the
# second Swagger UI from BentoML's files.
_POLICY = (
    "default-src 'none'; script-src {source} 'unsafe-inline'; style-src {source} 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SWAGGER = ("/static_content/swagger-ui-bundle.js", "/static_content/swagger-ui.css")
_PUBLIC = {"/", "/docs", *_SWAGGER, "/livez", "/readyz", "/healthz"}


def _bundled() -> Path | None:
    try:
        return Path(bentoml.models.get(MODEL_ALIAS).path_of(PACKAGE))
    except NotFound:
        return None  # started from its source


def _signature() -> Signature:
    bundled = _bundled()
    folder = champion_folder(SETTINGS) if bundled is None or current(SETTINGS) else bundled
    return Signature.from_json((folder / SIGNATURE).read_text())


def _fields() -> dict[str, Any]:
    path = HERE / FIELDS
    return json.loads(path.read_text()) if path.exists() else {"types": {}, "example": {}, "candidates": []}


def connect(model: ServedModel) -> Reader:
    """The reader of a model's features."""
    from hindcast.features.online import (
        FeatureReader,  # seconds, which the process that only starts the workers can save
    )

    # As the features were defined when the model was trained on them.
    return FeatureReader(SETTINGS, model.signature.feature_service, model.folder / FEATURES)


SIGNED, FIELDS_OF_A_REQUEST = _signature(), _fields()
RequestForm = request_form(SIGNED, FIELDS_OF_A_REQUEST["types"])
DEMANDS = Demands(PROBLEM.serving.unknown_entity == "refuse", PROBLEM.serving.identified_by)
BatchForm = batch_form(RequestForm, PROBLEM.serving.max_batch)


@lru_cache(maxsize=1)
def describe(example: str) -> dict[str, Any]:
    """The OpenAPI document, with an example (JSON)."""
    one = request_form(SIGNED, FIELDS_OF_A_REQUEST["types"], json.loads(example))
    return openapi(PROBLEM, SIGNED, one, batch_form(one, PROBLEM.serving.max_batch), with_tokens=bool(TOKENS))


def without_paths(reason: str | None) -> str | None:
    """A reason as callers may read it: without where on this machine things lie."""
    return reason and reason.replace(f"{SETTINGS.home}/", "").replace(f"{SETTINGS.root}/", "")


async def predict(request: Request) -> Response:
    """The champion's answer for one entity, from features as they were known at the prediction time."""
    return reply(await _answer_one(request))


async def explain(request: Request) -> Response:
    """As predict, with what each feature adds to the raw scores of the model that answers."""
    return reply(await _answer_one(request, explained=True))


async def _answer_one(request: Request, explained: bool = False) -> dict[str, Any]:
    service = request.app.state.service
    asked = [vars(RequestForm.model_validate_json(await request.body() or b"{}"))]
    (said,) = answer(service.champions.serving, asked, service.log, service.clock, explained, DEMANDS)
    if isinstance(said, Refused):
        raise HTTPException(404, said.detail)
    service.shadow.offer(asked, [said])
    return said


async def predict_batch(request: Request) -> Response:
    """As predict, for many: what is wrong with one row leaves the others' answers alone."""
    service = request.app.state.service
    rows = BatchForm.model_validate_json(await request.body() or b"{}").requests  # type: ignore[attr-defined]
    if len(rows) > PROBLEM.serving.max_batch:
        return refuse(413, f"A batch holds at most {PROBLEM.serving.max_batch} requests; this one has {len(rows)}.")
    champion = service.champions.serving  # one model for the whole batch
    answers = [problem_details(400, row.detail) if isinstance(row, Fault) else {} for row in rows]
    valid = [position for position, row in enumerate(rows) if not isinstance(row, Fault)]
    for start in range(0, len(valid), BATCH_STEP):
        step = valid[start : start + BATCH_STEP]
        asked = [vars(rows[position]) for position in step]
        said = answer(champion, asked, service.log, service.clock, demands=DEMANDS)
        for position, one in zip(step, said, strict=True):
            answers[position] = problem_details(404, one.detail) if isinstance(one, Refused) else one
        answered = [pair for pair in zip(asked, said, strict=True) if not isinstance(pair[1], Refused)]
        if answered:
            service.shadow.offer(*map(list, zip(*answered, strict=True)))
        await asyncio.sleep(0)
    return reply({"answers": answers, "failed": sum("status" in one for one in answers)})


async def get_model(request: Request) -> Response:
    """What is served, why not something newer, and which challenger runs in shadow."""
    service = request.app.state.service
    shadow = service.shadow.describe()
    fields = [name for name in RequestForm.model_fields if name not in ("prediction_time", "request_id")]
    more = {
        "request_fields": fields,
        "refused": without_paths(service.champions.refused),
        "shadow": shadow and shadow | {"failure": without_paths(shadow["failure"])},
    }
    return reply(service.champions.serving.describe() | more)


async def get_description(request: Request) -> Response:
    """The OpenAPI document, with an example that can be asked as the online store is filled now."""
    reader = request.app.state.service.champions.serving.reader
    example = choose_example(FIELDS_OF_A_REQUEST["candidates"], reader) or FIELDS_OF_A_REQUEST["example"]
    return reply(describe(json.dumps(example)))


async def get_metrics(_request: Request) -> Response:
    """For Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def page(name: str, source: str) -> Route:
    """The route of an HTML file, which may load scripts and styles from a source."""
    content = (HERE / f"{name}.html").read_bytes()
    headers = {"content-security-policy": _POLICY.format(source=source), "x-content-type-options": "nosniff"}

    async def get_page(_request: Request) -> Response:
        return Response(content, media_type="text/html", headers=headers)

    return Route("/" if name == "page" else f"/{name}", get_page)


async def on_broken_form(_request: Request, error: ValidationError) -> Response:
    return refuse(400, form_errors(error))


async def on_unavailable(_request: Request, reason: Unavailable) -> Response:
    LOG.error("Not available: %s", reason)
    return refuse(503, str(without_paths(str(reason))))


async def on_http_error(_request: Request, error: HTTPException) -> Response:
    return refuse(error.status_code, error.detail, error.headers)


async def on_failure(_request: Request, _error: Exception) -> Response:
    return refuse(500, "The service failed; its log says why.")  # Starlette raises the error again, and it is logged


APP = Starlette(
    routes=[
        Route("/predict", predict, methods=["POST"]),
        Route("/explain", explain, methods=["POST"]),
        Route("/predict_batch", predict_batch, methods=["POST"]),
        Route("/model", get_model),
        Route("/docs.json", get_description),
        Route("/metrics", get_metrics),
        page("page", ""),
        page("docs", "'self'"),
    ],
    exception_handlers={
        ValidationError: on_broken_form,
        Unavailable: on_unavailable,
        HTTPException: on_http_error,
        Exception: on_failure,
    },
)


@bentoml.asgi_app(APP)
@bentoml.service(
    name=PROBLEM.name,
    workers=1,
    traffic={"timeout": TIMEOUT + 5},  # later than the guard's; it can't be switched off
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},  # they keep a label for each path that anybody makes up
    tracing={"excluded_urls": [".*"]},
)
class Hindcast:
    """What the routes answer with: the champion, which is followed, the log, the clock and the shadow."""

    def __init__(self) -> None:
        die_with_parent(os.getppid())
        self.champions = Champions(SETTINGS, _bundled(), connect)
        self.log = RequestLog(SETTINGS.request_log, PROBLEM.serving.log_file_bytes)
        self.clock = clock_of(SETTINGS, PROBLEM)
        self.shadow = Shadow(SETTINGS, connect, self.clock)
        self.shadow.refresh()
        APP.state.service = self
        gc.collect()
        gc.freeze()  # what was loaded stays: it needn't be looked through again and again
        threading.Thread(target=self._follow_champion, daemon=True).start()

    def _follow_champion(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            before = self.champions.refused
            if self.champions.refresh():
                SWAPPED.inc()
                LOG.info("Now serving %s", self.champions.serving.model.version)
            elif self.champions.refused != before:
                LOG.error("The new champion is refused: %s", self.champions.refused)
            REFUSED.set(self.champions.refused is not None)
            self.shadow.refresh()


Hindcast.add_asgi_middleware(
    Guard,
    paths={route.path for route in APP.routes} | _PUBLIC,
    public=_PUBLIC,
    tokens=TOKENS,
    max_bytes=PROBLEM.serving.max_body_bytes,
    max_concurrency=PROBLEM.serving.max_concurrency,
    seconds=TIMEOUT,
)
