"""What is refused before the service sees it, and how what it holds is let go: the guard around a made-up service."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import REGISTRY
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hindcast.errors import HindcastError
from hindcast.serving.access import known_tokens

TOKEN, OTHER = "one-token-of-the-tests", "another-of-the-tests"
PUBLIC = {"/", "/readyz"}
LIMITS: dict[str, Any] = {
    "paths": {*PUBLIC, "/predict", "/model", "/docs.json"},
    "public": PUBLIC,
    "tokens": (),
    "max_bytes": 100,
    "max_concurrency": 2,
    "seconds": 5.0,
}


@pytest.fixture(scope="module")
def guard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guard", Path(__file__).parents[2] / "bentos" / "guard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Service:
    """Answers with the length of the body, after `work`; counts what it is asked."""

    def __init__(self, work: Callable[[], Any] | None = None) -> None:
        self.asked = 0
        self.let_go = 0
        self._work = work

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        try:
            if self._work:
                await self._work()
        except asyncio.CancelledError:
            self.let_go += 1
            raise
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": str(len(body)).encode()})


async def ask(
    app: Any,
    parts: list[bytes] | AsyncIterator[bytes] | None = None,
    method: str = "POST",
    path: str = "/predict",
    client: str | None = "127.0.0.1",
    version: str = "1.1",
    query: bytes = b"",
    **headers: str,
) -> tuple[int, dict[str, str], Any]:
    """One request, its body in parts; a caller who leaves where parts end early. Status, headers and content."""
    sent: list[Any] = []
    pieces = [b"{}"] if parts is None else parts

    async def messages() -> AsyncIterator[Any]:
        if isinstance(pieces, list):
            for number, piece in enumerate(pieces, 1):
                yield {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        else:
            async for piece in pieces:
                yield {"type": "http.request", "body": piece, "more_body": True}
        yield {"type": "http.disconnect"}

    coming = messages()

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "localhost:3001", "content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
        "server": ("127.0.0.1", 3001), "client": client and (client, 50000), "http_version": version,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }  # fmt: skip
    await app(scope, lambda: anext(coming), send)
    if not sent:
        return 0, {}, None
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


def test_a_body_goes_through_whole_in_however_many_parts(guard: ModuleType) -> None:
    service = Service()
    assert asyncio.run(ask(guard.Guard(service, **LIMITS), [b"12345", b"", b"678"]))[::2] == (200, 8)


@pytest.mark.parametrize("parts", [[b"x" * 101], [b"x" * 60, b"x" * 41], [b"x" * 30] * 100])
def test_a_body_past_the_limit_is_refused_and_the_service_never_sees_it(guard: ModuleType, parts: list[bytes]) -> None:
    service = Service()
    status, headers, said = asyncio.run(ask(guard.Guard(service, **LIMITS), parts))
    assert (status, said["title"], headers["connection"]) == (413, "Content Too Large", "close")
    assert service.asked == 0
    assert asyncio.run(ask(guard.Guard(service, **LIMITS), [b"x" * 100]))[0] == 200


@pytest.mark.parametrize("longer", [{"cookie": "x" * 65536}, {"query": b"x" * 65536}, {"path": "/" + "x" * 65536}])
def test_a_head_past_the_limit_is_refused(guard: ModuleType, longer: dict[str, Any]) -> None:
    service = Service()
    status, headers, said = asyncio.run(ask(guard.Guard(service, **LIMITS), **longer))
    assert (status, said["title"], headers["connection"]) == (431, "Request Header Fields Too Large", "close")
    assert service.asked == 0
    assert asyncio.run(ask(guard.Guard(service, **LIMITS), cookie="x" * 60000))[0] == 200


def test_past_so_many_at_once_one_more_is_told_to_come_again_and_a_place_is_free_after(guard: ModuleType) -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        app = guard.Guard(Service(gate.wait), **LIMITS)
        first = [asyncio.create_task(ask(app)) for _ in range(2)]
        await asyncio.sleep(0.01)
        status, headers, said = await ask(app)
        assert (status, headers["retry-after"]) == (429, "1")
        assert said["detail"].startswith("2 requests are being answered")
        gate.set()
        assert [status for status, _, _ in await asyncio.gather(*first)] == [200, 200]
        assert (await ask(app))[0] == 200

    asyncio.run(scene())


def test_whoever_only_looks_is_answered_however_many_are_at_work(guard: ModuleType) -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        app = guard.Guard(Service(gate.wait), **LIMITS)
        first = [asyncio.create_task(ask(app)) for _ in range(2)]
        await asyncio.sleep(0.01)
        look = asyncio.create_task(ask(app, method="GET", path="/readyz"))
        gate.set()
        assert (await look)[0] == 200
        await asyncio.gather(*first)

    asyncio.run(scene())


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_what_takes_too_long_is_ended_and_its_place_is_free(guard: ModuleType, method: str) -> None:
    async def scene() -> None:
        service = Service(asyncio.Event().wait)
        app = guard.Guard(service, **LIMITS | {"seconds": 0.05, "max_concurrency": 1})
        for turn in (1, 2):
            status, _, said = await ask(app, method=method)
            assert (status, said["detail"]) == (504, "There was no answer within 0.05 seconds.")
            assert service.let_go == turn

    asyncio.run(scene())


def test_a_slow_caller_holds_no_place_for_ever(guard: ModuleType) -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    async def scene() -> None:
        service = Service()
        app = guard.Guard(service, **LIMITS | {"seconds": 0.1, "max_concurrency": 1})
        status, _, said = await ask(app, drip())
        assert (status, said["detail"]) == (408, "The request didn't come in within 0.1 seconds.")
        assert service.asked == 0
        assert (await ask(app))[0] == 200

    asyncio.run(scene())


def test_a_caller_who_leaves_half_way_frees_the_place(guard: ModuleType) -> None:
    async def leave() -> AsyncIterator[bytes]:
        yield b"x"

    async def scene() -> None:
        service = Service()
        app = guard.Guard(service, **LIMITS | {"max_concurrency": 1})
        assert (await ask(app, leave()))[0] == 0  # nobody is there to hear an answer
        assert service.asked == 0
        assert (await ask(app))[0] == 200

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {OTHER}", 200),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer ", 401),
        ("", 401),
    ],
)
def test_with_tokens_only_who_bears_one_is_answered(guard: ModuleType, authorization: str, status: int) -> None:
    tokens = known_tokens({"HINDCAST_TOKENS": f"{TOKEN} {OTHER}"})
    app = guard.Guard(Service(), **LIMITS | {"tokens": tokens})
    for asked in ({"path": "/predict"}, {"path": "/model", "method": "GET"}, {"path": "/docs.json", "method": "GET"}):
        for client in ("127.0.0.1", "10.0.0.7"):
            found, headers, _ = asyncio.run(ask(app, client=client, authorization=authorization, **asked))
            assert found == status
            assert headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert asyncio.run(ask(app, path="/readyz", method="GET"))[0] == 200


@pytest.mark.parametrize(
    ("client", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:3001", 200),
        ("127.0.0.1", "localhost", 200),
        ("127.8.9.1", "localhost:3001", 200),
        ("::1", "[::1]:3001", 200),
        ("::ffff:127.0.0.1", "localhost:3001", 200),
        ("10.0.0.7", "localhost:3001", 403),
        ("::ffff:10.0.0.7", "localhost:3001", 403),
        ("127.0.0.1", "rebound.example:3001", 403),
        ("127.0.0.1", "", 403),
        ("10.0.0.7", "10.0.0.7:3001", 403),
        (None, "localhost:3001", 403),  # by a socket of the file system, whoever listens there
        ("unix:", "localhost:3001", 403),
    ],
)
def test_without_tokens_only_this_machine_is_answered(
    guard: ModuleType, client: str | None, host: str, status: int
) -> None:
    service = Service()
    assert asyncio.run(ask(guard.Guard(service, **LIMITS), client=client, host=host))[0] == status
    assert service.asked == (status == 200)


@pytest.mark.parametrize(
    "passed_on",
    [
        {"x_forwarded_for": "203.0.113.9"},
        {"x_forwarded_for": "127.0.0.1"},
        {"x_forwarded_for": ""},
        {"x_forwarded_host": "localhost"},
        {"x_forwarded_proto": "https"},
        {"x_real_ip": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
        {"cf_connecting_ip": "127.0.0.1"},
        {"true_client_ip": "127.0.0.1"},
        {"version": "1.0"},  # as nginx asks, unless it is configured otherwise
    ],
)
@pytest.mark.parametrize("asked", [{}, {"path": "/model", "method": "GET"}])
def test_what_a_proxy_of_this_machine_passes_on_is_not_of_this_machine(
    guard: ModuleType, passed_on: dict[str, str], asked: dict[str, str]
) -> None:
    service = Service()
    assert asyncio.run(ask(guard.Guard(service, **LIMITS), **asked, **passed_on))[0] == 403
    assert service.asked == 0
    tokens = known_tokens({"HINDCAST_TOKENS": TOKEN})
    known = guard.Guard(service, **LIMITS | {"tokens": tokens})
    assert asyncio.run(ask(known, authorization=f"Bearer {TOKEN}", **asked, **passed_on))[0] == 200


@pytest.mark.parametrize("trusted", ["127.0.0.1", "*", "10.0.0.7"])
@pytest.mark.parametrize("client", ["127.0.0.1", "10.0.0.7"])
@pytest.mark.parametrize("said", ["127.0.0.1", "203.0.113.9", "127.0.0.1, 203.0.113.9"])
def test_no_header_makes_a_caller_local_whomever_uvicorn_trusts(
    guard: ModuleType, trusted: str, client: str, said: str
) -> None:
    """uvicorn replaces the client's address by what such a header says, where FORWARDED_ALLOW_IPS trusts the caller."""
    service = Service()
    app = ProxyHeadersMiddleware(guard.Guard(service, **LIMITS), trusted_hosts=trusted)
    assert asyncio.run(ask(app, client=client, x_forwarded_for=said))[0] == 403
    assert asyncio.run(ask(app, client=client))[0] == (200 if client == "127.0.0.1" else 403)


def test_tokens_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\n{OTHER}\n")
    from_file = known_tokens({"HINDCAST_TOKENS_FILE": str(file), "HINDCAST_TOKENS": "x" * 20})
    assert from_file == known_tokens({"HINDCAST_TOKENS": f"{TOKEN} {OTHER}"})
    assert known_tokens({}) == known_tokens({"HINDCAST_TOKENS": ""}) == ()


def test_tokens_that_protect_nothing_are_refused_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(HindcastError, match="holds no token"):
        known_tokens({"HINDCAST_TOKENS_FILE": str(tmp_path / "empty")})
    with pytest.raises(HindcastError, match="can't be read"):
        known_tokens({"HINDCAST_TOKENS_FILE": str(tmp_path / "nothing")})
    with pytest.raises(HindcastError, match="fewer than 16 characters") as error:
        known_tokens({"HINDCAST_TOKENS": f"{TOKEN} hunter2"})
    assert "hunter2" not in str(error.value)


def test_public_paths_are_for_everybody_and_only_to_be_looked_at(guard: ModuleType) -> None:
    app = guard.Guard(Service(), **LIMITS | {"tokens": known_tokens({"HINDCAST_TOKENS": TOKEN})})
    assert asyncio.run(ask(app, method="GET", path="/", client="10.0.0.7"))[0] == 200
    status, headers, said = asyncio.run(ask(app, path="/", client="10.0.0.7"))
    assert (status, headers["allow"], said["title"]) == (405, "GET, HEAD", "Method Not Allowed")


def test_a_path_that_leads_nowhere_is_not_found_and_only_who_may_ask_hears_it(guard: ModuleType) -> None:
    service = Service()
    app = guard.Guard(service, **LIMITS)
    status, headers, said = asyncio.run(ask(app, path="/schema.json", method="GET"))
    assert (status, headers["content-type"], said["title"]) == (404, "application/problem+json", "Not Found")
    assert asyncio.run(ask(app, path="/schema.json", method="GET", client="10.0.0.7"))[0] == 403
    assert service.asked == 0


def test_nobody_is_connected_by_a_websocket(guard: ModuleType) -> None:
    async def scene() -> None:
        service, sent = Service(), []

        async def send(message: Any) -> None:
            sent.append(message)

        await guard.Guard(service, **LIMITS)({"type": "websocket", "path": "/predict"}, None, send)
        assert ([message["type"] for message in sent], service.asked) == (["websocket.close"], 0)

    asyncio.run(scene())


def test_answers_are_counted_by_path_and_status_and_made_up_paths_as_one(guard: ModuleType) -> None:
    def count(path: str, status: int) -> float:
        labels = {"path": path, "status": str(status)}
        return REGISTRY.get_sample_value("hindcast_request_seconds_count", labels) or 0.0

    before = count("/predict", 200), count("other", 404)
    app = guard.Guard(Service(), **LIMITS)
    asyncio.run(ask(app))
    for number in range(20):
        asyncio.run(ask(app, path=f"/made-up-{number}"))
    assert (count("/predict", 200), count("other", 404)) == (before[0] + 1, before[1] + 20)
