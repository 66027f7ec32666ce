"""One connection: callers who send a request's head too slowly or without end, or no HTTP at all, are let go.

What comes after the head is `guard`'s. Of its own, uvicorn would wait for a head for ever, however long it gets.
"""

import asyncio
import socket
from typing import Any

from guard import HEAD_BYTES, head_too_long, problem, reply
from starlette.responses import Response
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """uvicorn's own, with limits.

    Attributes:
        paths: That lead anywhere. Any other is `/unknown` to what comes next: BentoML keeps counts per path, for ever,
            of whatever callers make up.
        seconds: From the first byte of a head to its last, and from the connection's beginning to the first head's
            last. So long may sent bytes lie with a caller who doesn't take them, too (on Linux).
    """

    paths: frozenset[str]
    seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._unasked = 0
        self._too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.seconds * 1000))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        expected = self._in_head or self._is_idle()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not (self._in_head or self._is_idle()):
            self._go_on()
            return
        if expected:  # else it began with the rest of a body that was asked for
            self._unasked += len(data)
        if self._unasked > HEAD_BYTES:
            self._let_go(head_too_long() if self._in_head else None)
        elif self._is_idle():
            self._wait()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if self.scope["path"].removesuffix("/") not in self.paths:  # the request's task has it, but hasn't begun
            self.scope["path"] = "/unknown"

    def _should_upgrade(self) -> bool:
        return False  # nothing here speaks WebSocket, and a guard of HTTP would let it through

    def send_400_response(self, msg: str) -> None:
        self._let_go(reply(problem(400, "Bad Request", "This isn't HTTP as the service reads it."), 400))

    def _is_idle(self) -> bool:
        """Whether no request is being answered. What comes in then is a head, or more of a body nobody wants."""
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        if self._too_late is None:
            self._too_late = self.loop.call_later(self.seconds, self._stop_waiting)

    def _stop_waiting(self) -> None:
        late = problem(408, "Request Timeout", f"The request didn't come in within {self.seconds:g} seconds.")
        self._let_go(reply(late, 408) if self._in_head else None)

    def _go_on(self) -> None:
        self._unasked = 0
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _let_go(self, response: Response | None) -> None:
        """Closes the connection; before, says why, unless an answer is on its way."""
        if response is not None and (self._is_idle() or not self.cycle.response_started):
            headers = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
            self.transport.write(
                b"".join([STATUS_LINE[response.status_code], *headers, b"connection: close\r\n\r\n", response.body])
            )
        self.transport.close()


def limit_connections(paths: frozenset[str], seconds: float) -> None:
    """Has every connection of this process's server be one of these: BentoML leaves the choice to uvicorn."""
    Connection.paths, Connection.seconds = paths, seconds
    auto.AutoHTTPProtocol = Connection
