"""The real service behind a reverse proxy on the same machine: who is answered, and what the proxy cuts off."""

import re
import secrets
import select
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import httpx
import pytest

from hindcast.serving.server import champion_tag, running
from hindcast.settings import Settings
from tests.patience import SILENCE
from tests.reverse_proxy import reverse_proxy
from tests.served_world import NOON, ROOT, served_world
from tests.tiny_model import probability

PATIENT: dict[str, Any] = {"trust_env": False, "timeout": SILENCE}
BODY = {"parcel": "P1", "depot": 1, "prediction_time": NOON.isoformat()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return served_world(tmp_path_factory.mktemp("proxied"))


@pytest.fixture(scope="module")
def url(home: Settings) -> Iterator[str]:
    with running(home, champion_tag(home)) as url:
        yield url


def documented(url: str) -> str:
    """What the documents put into nginx's `server { … }`, but for its address, and with the service's of the test."""
    text = (ROOT / "docs" / "serving.md").read_text()
    block = re.search(r"```nginx\nserver \{\n(.*?)\n\}\n```", text, re.DOTALL)
    assert block is not None
    assert "http://127.0.0.1:3001" in block[1]
    directives = block[1].replace("http://127.0.0.1:3001", url)
    return re.sub(r"^ *(listen|server_name|ssl_\w+) .*\n", "", directives, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "more",
    [
        "",  # nothing else, as beginners write it: no header says that it was passed on
        "proxy_set_header Host localhost; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr;",
        "proxy_http_version 1.1; proxy_set_header X-Forwarded-For 127.0.0.1;",
        "proxy_http_version 1.1; proxy_set_header Forwarded for=127.0.0.1;",
    ],
)
def test_without_tokens_nobody_is_answered_through_a_proxy(url: str, tmp_path: Path, more: str) -> None:
    with reverse_proxy(tmp_path / "nginx", f"location / {{ proxy_pass {url}; {more} }}") as outside:
        for headers in ({}, {"host": "localhost"}, {"x-forwarded-for": "127.0.0.1"}):
            response = httpx.post(f"{outside}/predict", json=BODY, headers=headers, **PATIENT)
            assert (response.status_code, "set HINDCAST_TOKENS" in response.json()["detail"]) == (403, True)
            assert httpx.get(f"{outside}/model", headers=headers, **PATIENT).status_code == 403
        assert httpx.get(f"{outside}/readyz", **PATIENT).status_code == 200
    assert httpx.post(f"{url}/predict", json=BODY, **PATIENT).status_code == 200


def test_with_tokens_the_documented_proxy_works(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = secrets.token_hex(16)
    monkeypatch.setenv("HINDCAST_TOKENS", token)
    with (
        running(home, champion_tag(home)) as url,
        reverse_proxy(tmp_path / "nginx", documented(url)) as outside,
        httpx.Client(base_url=outside, **PATIENT) as client,
    ):
        assert client.post("/predict", json=BODY).status_code == 401
        said = client.post("/predict", json=BODY, headers={"authorization": f"Bearer {token}"})
        assert said.json()["probability"] == pytest.approx(probability(0.0, 2.0), abs=1e-6)


def closed_after(outside: str, parts: Iterable[bytes]) -> bytes:
    """What is heard until the proxy closes, of which the parts of a request are sent one every tenth of a second."""
    address = httpx.URL(outside)
    assert address.port is not None
    said = b""
    with (
        socket.create_connection((address.host, address.port), timeout=SILENCE) as connection,
        suppress(BrokenPipeError, ConnectionResetError),
    ):
        for part in parts:
            if select.select([connection], [], [], 0.1)[0]:
                break
            connection.sendall(part)
        while more := connection.recv(65536):
            said += more
    return said


def test_the_documented_proxy_lets_go_of_slow_and_endless_heads(url: str, tmp_path: Path) -> None:
    """The service itself would wait for ever, and keep whatever comes."""
    directives = documented(url)
    assert "client_header_timeout 10s;" in directives
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\n"
    quick = directives.replace("client_header_timeout 10s;", "client_header_timeout 1s;")
    with reverse_proxy(tmp_path / "nginx", quick) as outside:
        assert closed_after(outside, [head[:20]]) == b""
        assert closed_after(outside, chain([head], repeat(b"x-slow: y\r\n", 1000))) == b""
    with reverse_proxy(tmp_path / "nginx", directives) as outside:
        for endless in (b"GET /model HTTP/1.1\r\nx: " + b"y" * 1_000_000, b"GET /" + b"x" * 1_000_000):
            status = closed_after(outside, [endless]).split()[1:2]
            assert status in ([b"400"], [b"414"], [b"431"])
        assert httpx.get(f"{outside}/readyz", **PATIENT).status_code == 200


def test_with_uvicorn_trusting_everybody_nobody_passes_for_local(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with running(home, champion_tag(home)) as url:
        headers = {"x-forwarded-for": "127.0.0.1"}
        assert httpx.post(f"{url}/predict", json=BODY, headers=headers, **PATIENT).status_code == 403
        assert httpx.post(f"{url}/predict", json=BODY, **PATIENT).status_code == 200
