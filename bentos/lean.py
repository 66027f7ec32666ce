"""What BentoML does around each request and this service has no use for, taken out: together a third of a request.

- Its time limit keeps every request's timer, and with it what the request holds, until the limit has run out. `guard`
  has a limit that lets go.
- Its tracing takes an address apart even of what it is told not to trace.
- Its answer's headers name it to every caller, and are looked up anew for each.

All of it is BentoML's inside: where a version has it no longer, starting the service says so.
"""

from typing import Any

from _bentoml_impl.server.app import ServiceAppFactory
from bentoml._internal.server.http import traffic
from opentelemetry.instrumentation import asgi
from starlette.types import ASGIApp, Receive, Scope, Send


class Through:
    """Middleware that does nothing."""

    def __init__(self, app: ASGIApp, **_options: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def trim_bentoml() -> None:
    """For this process, before its app is made."""
    _replace(traffic, "TimeoutMiddleware", Through)
    _replace(asgi, "OpenTelemetryMiddleware", Through)
    _replace(ServiceAppFactory, "_add_response_headers", lambda _app, _response: None)


def _replace(owner: Any, name: str, by: Any) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"This version of BentoML has no {owner.__name__}.{name}: look at bentos/lean.py again.")
    setattr(owner, name, by)
