"""A reverse proxy of the tests' own on this machine: nginx where it is installed, else one by hand."""

import http.client
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.patience import wait_for
from tests.redis_server import free_port


@contextmanager
def reverse_proxy(folder: Path, directives: str) -> Iterator[str]:
    """Passes everything on as long as the context lasts; gives the proxy's URL.

    Args:
        folder: For nginx's files.
        directives: Of nginx, as they stand in its `server { … }`, without its address.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin")
    with _nginx(program, folder, directives) if program else _by_hand(directives) as url:
        yield url


@contextmanager
def _nginx(program: str, folder: Path, directives: str) -> Iterator[str]:
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    places = "".join(
        f"{kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log {folder / 'log'};\nevents {{}}\n"
        f"http {{ access_log off;\n{places}"
        f"server {{ listen 127.0.0.1:{port}; {directives} }} }}\n"
    )
    with subprocess.Popen([program, "-p", str(folder), "-c", str(config)]) as process:
        try:
            wait_for(lambda: _answers(port), process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


@contextmanager
def _by_hand(directives: str) -> Iterator[str]:
    target = urlsplit(_first(r"proxy_pass\s+([^;]+);", directives)).netloc
    version = _first(r"proxy_http_version\s+([^;]+);", directives) or "1.0"
    seconds = float(_first(r"client_header_timeout\s+(\d+)s;", directives) or 60)
    added = dict(re.findall(r"proxy_set_header\s+(\S+)\s+([^;]+);", directives))

    class Upstream(http.client.HTTPConnection):  # has no public way to speak HTTP/1.0
        _http_vsn, _http_vsn_str = int(version.replace(".", "")), f"HTTP/{version}"

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            self.late = threading.Timer(seconds, self.connection.shutdown, [socket.SHUT_RDWR])
            self.late.start()

        def parse_request(self) -> bool:
            whole = super().parse_request()
            self.late.cancel()
            return whole

        def _pass_on(self) -> None:
            variables = {"$host": self.headers["host"].split(":")[0], "$scheme": "http"}
            variables |= dict.fromkeys(("$remote_addr", "$proxy_add_x_forwarded_for"), self.client_address[0])
            headers = {name.lower(): value for name, value in self.headers.items()} | {"host": target}
            headers |= {name.lower(): variables.get(value, value) for name, value in added.items()}
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            upstream = Upstream(target)
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("content-type", str(answer.getheader("content-type")))
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

        do_GET = do_POST = _pass_on  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1].strip() if found else ""
