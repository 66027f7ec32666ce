"""A headless Chromium, driven over its own debugging protocol: open a page, run a script in it, read what it shows."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.patience import SILENCE, wait_for

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """One open page.

    Attributes:
        complaints: What it wrote to its console as an error, and what its security policy kept it from.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self.complaints: list[str] = []
        for domain in ("Runtime", "Log", "Page"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        said = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, script: str) -> Any:
        """As `run`, once the value is true."""
        try:
            return wait_for(lambda: self.run(script))
        except AssertionError as error:
            raise AssertionError(f"{script} never came true; {self.complaints}") from error

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(SILENCE))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, event: Any) -> None:
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["params"]["exceptionDetails"]))
        if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.complaints.append(event["params"]["entry"]["text"])


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with an empty profile in `folder`, and one page in it, as long as the context lasts."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, f"Install one of {', '.join(PROGRAMS)} (Debian: apt-get install chromium)."
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={folder}"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([program, *options, "about:blank"], **quiet) as process:
        try:
            port = wait_for(lambda: _port(folder / "DevToolsActivePort"), process)
            pages = wait_for(lambda: _pages(port), process)
            with connect(pages[0], max_size=None, proxy=None, open_timeout=SILENCE, ping_interval=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(SILENCE)


def _port(file: Path) -> int | None:
    return int(file.read_text().split()[0]) if file.exists() and file.read_text() else None


def _pages(port: int) -> list[str]:
    found = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False, timeout=SILENCE).json()
    return [page["webSocketDebuggerUrl"] for page in found if page["type"] == "page"]
