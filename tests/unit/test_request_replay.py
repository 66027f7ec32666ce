"""Simulated time: what is known before what is asked, each entity once, and a broken-off replay goes on."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Entity, Problem, load_problem
from hindcast.serving.request_log import RequestLog
from hindcast.serving.request_replay import Replay, replay_requests
from hindcast.settings import Settings
from tests.unit.test_request_log import record

START = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Server(ThreadingHTTPServer):
    """Answers and logs as the service does; notes what happened in what order; may fail some parcels."""

    def __init__(self, log: RequestLog) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log, self.events, self.failing, self.version = log, [], set[str](), "v1"
        self.unknown = set[str]()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.as_of = START

    def materialise(self, start: datetime | None, end: datetime) -> None:
        self.events.append(f"known {start:%H:%M} to {end:%H:%M}" if start else f"known to {end:%H:%M}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        fields = ["parcel", "depot"]
        self.reply({"version": self.server.version, "request_fields": fields, "as_of": self.server.as_of.isoformat()})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.events.append(body["parcel"])
        if body["parcel"] in self.server.failing:
            self.reply({"detail": "no disk"}, 503)
            return
        if body["parcel"] in self.server.unknown:
            self.reply({"detail": f"Nothing is known of parcel {body['parcel']}."}, 404)
            return
        self.server.log.append([record(0, id=body["request_id"], entity=body)])
        self.reply({})

    def reply(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def problem(settings: Settings) -> Problem:
    parcels = {"labeled_table": "labeled.parcels", "entity": Entity(name="parcel", key="parcel")}
    return load_problem(settings.problem_file).model_copy(update=parcels)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A is asked for at 00:10, B at 00:50, C at 02:00; D a moment before the replay, E at its very end."""
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA labeled")
        connection.execute(
            "CREATE TABLE labeled.parcels AS FROM (VALUES ('C', NULL, TIMESTAMP '2024-05-01 02:00'), "
            "('B', 'X', '2024-05-01 00:50'), ('A', 'X', '2024-05-01 00:10'), ('D', 'X', '2024-04-30 23:59'), "
            "('E', 'X', '2024-05-01 03:00')) AS t(parcel, depot, prediction_time)"
        )
    return lake


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    server = Server(RequestLog(settings.request_log))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def replay(settings: Settings, problem: Problem, lake: Lake, server: Server) -> Replay:
    ends = START + 3 * HOUR
    return replay_requests(settings, problem, lake, server.url, START, ends, HOUR, server.materialise)


def test_what_is_known_goes_before_what_is_asked(
    settings: Settings, problem: Problem, lake: Lake, server: Server
) -> None:
    replayed = replay(settings, problem, lake, server)
    first, a, b, *rest = server.events
    assert (first, {a, b}) == ("known to 00:00", {"A", "B"})  # within a step the order is free
    assert rest == ["known 00:00 to 02:00", "C", "known 02:00 to 03:00"]
    assert (replayed.sent, replayed.answered, replayed.failed, replayed.already) == (3, 3, 0, 0)
    assert 0 < (replayed.p50_ms or 0) <= (replayed.p99_ms or 0)
    assert json.loads(settings.replay_file.read_text())["sent"] == 3


def test_a_broken_off_replay_goes_on(settings: Settings, problem: Problem, lake: Lake, server: Server) -> None:
    server.failing = {"B"}
    replayed = replay(settings, problem, lake, server)
    assert (replayed.sent, replayed.answered, replayed.failed) == (3, 2, 1)
    assert "no disk" in (replayed.failure or "")
    server.failing, server.events = set(), []
    replayed = replay(settings, problem, lake, server)
    assert server.events == ["known to 00:00", "B", "known 00:00 to 03:00"]
    assert (replayed.sent, replayed.answered, replayed.failed, replayed.already) == (3, 1, 0, 2)


def test_what_the_problem_refuses_is_no_failure(
    settings: Settings, problem: Problem, lake: Lake, server: Server
) -> None:
    server.unknown = {"B"}
    refusing = problem.model_copy(update={"serving": problem.serving.model_copy(update={"unknown_entity": "refuse"})})
    replayed = replay(settings, refusing, lake, server)
    assert (replayed.sent, replayed.answered, replayed.failed, replayed.refused) == (3, 2, 0, 1)
    replayed = replay(settings, problem, lake, server)  # which doesn't declare it
    assert (replayed.answered, replayed.failed, replayed.refused) == (0, 1, 0)


def test_a_model_is_asked_only_from_when_it_was_made(
    settings: Settings, problem: Problem, lake: Lake, server: Server
) -> None:
    server.as_of = START + HOUR / 2
    assert replay(settings, problem, lake, server).sent == 2
    assert server.events == ["known to 00:30", "B", "known 00:30 to 01:30", "C", "known 01:30 to 03:00"]


def test_another_model_is_asked_anew(settings: Settings, problem: Problem, lake: Lake, server: Server) -> None:
    replay(settings, problem, lake, server)
    server.version = "v2"
    assert replay(settings, problem, lake, server).answered == 3


def test_no_server_is_an_error(settings: Settings, problem: Problem, lake: Lake, server: Server) -> None:
    server.url = "http://127.0.0.1:9"
    with pytest.raises(HindcastError, match="doesn't say what it serves"):
        replay(settings, problem, lake, server)
