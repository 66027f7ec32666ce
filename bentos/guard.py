"""What stands before the service: who may ask, how much at once, how long, and the form of every error.

Knows no model and no feature. It must never raise: the answer would be somebody else's, in another form.
"""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from hindcast.serving.access import admits
from hindcast.serving.request_form import explain_faults

AS_JSON = json.JSONEncoder(separators=(",", ":")).encode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What says nothing of the model or of anybody's request: for those who watch whether the service lives, and for the
# empty page into which a person writes a token.
_OPEN = {"/livez", "/readyz", "/healthz", "/"}
HEAD_BYTES = 64 * 1024  # of the address and the headers
# The page is one file: it loads nothing, is framed by nobody, and asks only the service that it came from.
_FOR_A_PAGE = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}
# Headers that reverse proxies and content delivery networks add: such a request may come from another machine.
_OF_PROXIES = {
    *(b"forwarded", b"via", b"x-real-ip", b"x-real-port", b"x-client-ip", b"x-cluster-client-ip", b"client-ip"),
    *(b"true-client-ip", b"fastly-client-ip", b"cdn-loop", b"x-proxyuser-ip", b"x-remote-addr", b"remote-addr"),
    *(b"x-amzn-trace-id", b"x-arr-clientip", b"x-azure-clientip", b"x-appengine-user-ip", b"proxy-connection"),
}
_STARTS_OF_PROXIES = (b"x-forwarded", b"x-original-", b"x-envoy-", b"cf-")


def problem(status: int, title: str, detail: str) -> dict[str, Any]:
    """Problem details (RFC 9457)."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def reply(content: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON answer; problems say so in their media type."""
    kind = "application/json" if status < 400 else "application/problem+json"
    return Response(AS_JSON(content), status, media_type=kind)


def head_too_long() -> Response:
    """What is answered to a request whose address and headers are longer than any that is meant."""
    detail = f"The request's address and headers are longer than {HEAD_BYTES} bytes."
    return reply(problem(431, "Request Header Fields Too Large", detail), 431)


class Guard:
    """Refuses who may not ask, what is too large, too much at once or no JSON, and what takes too long.

    It comes into play when a request's head is there; until then, it is `connection`'s.

    Args:
        app: BentoML's.
        tokens: SHA-256 digests of the tokens of which a request must bear one; where there are none, only requests
            of this machine are answered.
        max_bytes: Of a body.
        max_concurrency: Requests with a body that are worked on at once; one more is told to come again.
        seconds: That a request may take, its reading included; what it holds is then let go.
        page: HTML that stands at `/`, for people.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        tokens: tuple[bytes, ...],
        max_bytes: int,
        max_concurrency: int,
        seconds: float,
        page: bytes,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._max_bytes = max_bytes
        self._max_concurrency = max_concurrency
        self._seconds = seconds
        self._page = page
        self._running = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] == "GET" and scope["path"] == "/":
            await Response(self._page, media_type="text/html", headers=_FOR_A_PAGE)(scope, receive, send)
            return
        if refusal is None and scope["method"] in ("GET", "HEAD"):
            answer.read = True
            await self._in_time(self._app(scope, receive, answer.send), scope, receive, answer)
            return
        if refusal is None and self._running >= self._max_concurrency:
            limit = f"{self._max_concurrency} requests are being answered, and no more are at once."
            refusal = reply(problem(429, "Too Many Requests", limit), 429)
            refusal.headers["retry-after"] = "1"
        if refusal is not None:
            refusal.headers["connection"] = "close"  # its body was never read
            await refusal(scope, receive, send)
            return
        self._running += 1
        try:
            await self._in_time(self._answer(scope, receive, answer), scope, receive, answer)
        finally:
            self._running -= 1

    async def _in_time(self, work: Awaitable[None], scope: Message, receive: Receive, answer: "_Answer") -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await work
        except TimeoutError:
            await answer.give_up(scope, receive, self._seconds)

    async def _answer(self, scope: Message, receive: Receive, answer: "_Answer") -> None:
        body = await self._read(receive)
        if body is None:
            return  # the caller has gone
        if len(body) > self._max_bytes:
            detail = f"The body is longer than {self._max_bytes} bytes."
            response = reply(problem(413, "Content Too Large", detail), 413)
            response.headers["connection"] = "close"
            await response(scope, receive, answer.send)
            return
        answer.read = True
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return parts.pop() if parts else await receive()

        await self._app(scope, replay, answer.send)

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
            return head_too_long()
        headers = dict(scope["headers"])
        if scope["path"] not in _OPEN:
            if self._tokens:
                if not admits(self._tokens, headers.get(b"authorization", b"")):
                    detail = "Send a token that the service knows: authorization: Bearer …"
                    refusal = reply(problem(401, "Unauthorized", detail), 401)
                    refusal.headers["www-authenticate"] = "Bearer"
                    return refusal
            elif not _of_this_machine(scope, headers):
                detail = "Without tokens, only requests of this machine that no proxy passed on are answered: "
                detail += "set HINDCAST_TOKENS."
                return reply(problem(403, "Forbidden", detail), 403)
        kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":  # BentoML would read forms, too
            detail = "Send JSON, with the header content-type: application/json."
            return reply(problem(415, "Unsupported Media Type", detail), 415)
        return None


class _Answer:
    """What goes back to a caller: errors of BentoML and Starlette take the form of problem details.

    Attributes:
        read: Whether the request has come in as a whole.
    """

    def __init__(self, send: Send) -> None:
        self.read = False
        self._send = send
        self._started = False
        self._error: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            if kinds != [b"application/problem+json"]:
                self._error = message
                return
        if self._error is None:
            self._started = True
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            await self._send_problem(self._error)

    async def give_up(self, scope: Message, receive: Receive, seconds: float) -> None:
        """Says that it took too long, unless an answer is on its way."""
        if self._started:
            return
        if self.read:
            late = problem(504, "Gateway Timeout", f"There was no answer within {seconds:g} seconds.")
        else:
            late = problem(408, "Request Timeout", f"The request didn't come in within {seconds:g} seconds.")
        response = reply(late, late["status"])
        response.headers["connection"] = "close"
        await response(scope, receive, self._send)

    async def _send_problem(self, start: Message) -> None:
        self._started = True
        status = start["status"]
        response = reply(problem(status, HTTPStatus(status).phrase, _detail(status, self._body)), status)
        kept = [pair for pair in start["headers"] if pair[0] not in (b"content-type", b"content-length")]
        await self._send({**start, "headers": [*kept, *response.raw_headers]})
        await self._send({"type": "http.response.body", "body": response.body})


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
