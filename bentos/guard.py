"""What stands before the routes: who may ask, how much at once and for how long; counts what was answered.

Knows no model and no feature. Slow or endless heads are the reverse proxy's to refuse: no setting of the server limits
them (docs/serving.md).
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from prometheus_client import Histogram
from starlette.responses import Response

from hindcast.serving.access import admits

AS_JSON = json.JSONEncoder(separators=(",", ":")).encode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEAD_BYTES = 64 * 1024  # of the address and the headers
_TITLES = {413: "Content Too Large"}  # Python 3.12 has an older name
_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}
# Headers that reverse proxies and content delivery networks add: such a request may come from another machine.
_OF_PROXIES = {
    *(b"forwarded", b"via", b"x-real-ip", b"x-real-port", b"x-client-ip", b"x-cluster-client-ip", b"client-ip"),
    *(b"true-client-ip", b"fastly-client-ip", b"cdn-loop", b"x-proxyuser-ip", b"x-remote-addr", b"remote-addr"),
    *(b"x-amzn-trace-id", b"x-arr-clientip", b"x-azure-clientip", b"x-appengine-user-ip", b"proxy-connection"),
}
_STARTS_OF_PROXIES = (b"x-forwarded", b"x-original-", b"x-envoy-", b"cf-")
_SECONDS = Histogram(
    "hindcast_request_seconds",
    "From a request's head to the end of its answer; status 0 where the caller had gone.",
    ["path", "status"],
)


def problem_details(status: int, detail: str) -> dict[str, Any]:
    """An error as content (RFC 9457)."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def reply(content: Mapping[str, Any]) -> Response:
    """A JSON answer."""
    return Response(AS_JSON(content), media_type="application/json")


def refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as an answer."""
    return Response(AS_JSON(problem_details(status, detail)), status, headers, "application/problem+json")


class Guard:
    """Refuses who may not ask, what is too large, too much at once or no JSON, and what takes too long.

    Args:
        app: BentoML's, with the service's routes.
        paths: That lead anywhere; any other is not found, and counted as `other`.
        public: Those of them that say nothing of the model or of anybody's request, and take no body: for those who
            watch whether the service lives, and for the empty page into which a person writes a token.
        tokens: SHA-256 digests of the tokens of which a request must bear one; where there are none, only requests
            of this machine are answered.
        max_bytes: Of a body.
        max_concurrency: Requests with a body that are worked on at once; one more is told to come again.
        seconds: That a request may take, its body's arrival included; what it holds is then let go.
    """

    def __init__(
        self,
        app: App,
        paths: Collection[str],
        public: Collection[str],
        tokens: tuple[bytes, ...],
        max_bytes: int,
        max_concurrency: int,
        seconds: float,
    ) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._public = frozenset(public)
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._max_concurrency = max_concurrency
        self._seconds = seconds
        self._running = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if refusal := self._refusal(scope):
                refusal.headers["connection"] = "close"  # its body was never read
                await refusal(scope, receive, note_status)
                return
            instead = await self._answer(scope, receive, note_status)
            if instead and not status:
                await instead(scope, receive, note_status)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            _SECONDS.labels(path, status).observe(time.perf_counter() - began)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> Response | None:
        """Has the app answer; gives what to say instead where the body is too long or it took too long."""
        has_body = scope["method"] not in ("GET", "HEAD")
        self._running += has_body
        is_read = not has_body
        try:
            async with asyncio.timeout(self._seconds):
                if has_body:
                    body = await self._read(receive)
                    if body is None:
                        return None  # the caller has gone
                    if len(body) > self._max_bytes:
                        return refuse(413, f"The body is longer than {self._max_bytes} bytes.", {"connection": "close"})
                    is_read, receive = True, _replay(body, receive)
                await self._app(scope, receive, send)
                return None
        except TimeoutError:
            status, what = (504, "There was no answer") if is_read else (408, "The request didn't come in")
            return refuse(status, f"{what} within {self._seconds:g} seconds.", {"connection": "close"})
        finally:
            self._running -= has_body

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or None where the caller has gone. Of one that is too long, a little more than the limit.

        Reads on a little, so that who sends too much hears the answer.
        """
        body, size = bytearray(), 0
        while size <= 8 * self._max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            size += len(chunk)
            if len(body) <= self._max_bytes:
                body += chunk[: self._max_bytes + 1]
            if not message.get("more_body", False):
                break
        return bytes(body)

    def _refusal(self, scope: Message) -> Response | None:
        head = len(scope["raw_path"]) + len(scope["query_string"])
        if head + sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            return refuse(431, f"The request's address and headers are longer than {HEAD_BYTES} bytes.")
        headers, path = dict(scope["headers"]), scope["path"]
        if path not in self._public:
            if self._tokens:
                if not admits(self._tokens, headers.get(b"authorization", b"")):
                    detail = "Send a token that the service knows: authorization: Bearer …"
                    return refuse(401, detail, {"www-authenticate": "Bearer"})
            elif not _of_this_machine(scope, headers):
                detail = "Without tokens, only requests of this machine that no proxy passed on are answered: "
                return refuse(403, detail + "set HINDCAST_TOKENS.")
        elif scope["method"] not in ("GET", "HEAD"):
            return refuse(405, "Method Not Allowed", {"allow": "GET, HEAD"})
        if path not in self._paths:
            return refuse(404, "Not Found")
        kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":
            return refuse(415, "Send JSON, with the header content-type: application/json.")
        if scope["method"] not in ("GET", "HEAD") and self._running >= self._max_concurrency:
            limit = f"{self._max_concurrency} requests are being answered, and no more are at once."
            return refuse(429, limit, {"retry-after": "1"})
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read, in one message, and then what else comes."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return parts.pop() if parts else await receive()

    return next_message


def _of_this_machine(scope: Message, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request was sent by a process of this machine, to a name that means this machine.

    A reverse proxy on this machine connects from a loopback address, too: what it passes on is recognised by the
    headers that proxies add, or by HTTP/1.0, which nginx speaks unless it is configured otherwise. uvicorn may
    replace the client's address by what such a header says, and only by that: a request with one is never local.

    The name as well: another's page in a browser of this machine may have its own name point here.
    """
    if scope.get("http_version", "1.1") != "1.1" or any(_is_a_proxys(header) for header in headers):
        return False
    host = headers.get(b"host", b"").decode("latin-1")
    named = (host if host.endswith("]") else host.rsplit(":", 1)[0]) in _LOCAL_NAMES
    return named and _is_loopback((scope.get("client") or ("",))[0])


def _is_a_proxys(header: bytes) -> bool:
    return header in _OF_PROXIES or header.startswith(_STARTS_OF_PROXIES)


@lru_cache(maxsize=16)
def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A socket that takes both versions of IP gives ::ffff:127.0.0.1, which not every Python calls loopback.
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
