"""The real service from its bento, over a made-up problem: three parcels, two depots, a model made without training."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import psutil
import pytest

from hindcast.features.materialise import materialise
from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.promotion import champion
from hindcast.serving.bento import build_bento
from hindcast.serving.request_log import compact
from hindcast.serving.server import FIELDS, bento_folder, champion_tag
from hindcast.settings import Settings
from tests.patience import SILENCE, wait_for
from tests.served_world import NOON, package, promote, served_world
from tests.tiny_model import probability

START = """
import sys, time
from hindcast.serving.server import built_bentos, running
from hindcast.settings import Settings
settings = Settings.from_environment()
with running(settings, next(iter(built_bentos(settings)))) as url:
    print(url, flush=True)
    time.sleep(10**6)
"""
COMPACT = """
from hindcast.features.materialise import materialise
from hindcast.lake import Lake
from hindcast.serving.request_log import compact
from hindcast.settings import Settings
settings = Settings.from_environment()
print("begin", flush=True)
compact(settings.request_log, Lake(settings), "parcels.requests", "parcel")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return served_world(tmp_path_factory.mktemp("service"))


@contextmanager
def started(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs the server, and the server's URL."""
    starter = subprocess.Popen(
        [sys.executable, "-c", START], env=os.environ | settings.environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        assert url, "the server didn't start"
        yield starter, url
    finally:
        starter.terminate()
        starter.wait(SILENCE)


@pytest.fixture(scope="module")
def server(home: Settings) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with started(home) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: tuple[subprocess.Popen[str], str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server[1], trust_env=False, timeout=SILENCE) as client:
        yield client


def ask(client: httpx.Client, parcel: str, depot: int | None = 1, **more: Any) -> httpx.Response:
    return client.post("/predict", json={"parcel": parcel, "depot": depot, "prediction_time": NOON.isoformat()} | more)


def logged(settings: Settings) -> dict[str, dict[str, Any]]:
    """Whole records in the files, by id."""
    files = [path.read_bytes() for path in settings.request_log.glob("*.jsonl")]
    lines = [line for file in files for line in file.split(b"\n")[:-1]]
    return {record["id"]: record for record in map(json.loads, lines)}


def processes(starter: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(starter.pid).children(recursive=True)


def test_one_answer(client: httpx.Client) -> None:
    said = ask(client, "P1").json()
    assert said["probability"] == pytest.approx(probability(0.0, 2.0), abs=1e-6)
    assert (said["decision"], said["model_version"], said["snapshot"]) == (1, "v1", 7)
    assert said["feature_times"] == {"parcels": "2024-05-01T10:00:00+00:00", "depots": "2024-05-01T11:00:00+00:00"}
    assert (said["missing_or_stale"], said["unknown_categories"]) == ([], [])


def test_an_answer_can_be_explained_and_is_logged_like_any_other(client: httpx.Client, home: Settings) -> None:
    body = {"parcel": "P1", "depot": 1, "prediction_time": NOON.isoformat()}
    said = client.post("/explain", json=body).json()
    contributions = {each["feature"]: each["contribution"] for each in said["contributions"]}
    assert contributions == pytest.approx({"weight": 2.0, "kind": 0.0})
    assert said["base"] + sum(contributions.values()) == pytest.approx(said["raw_score"], abs=said["tolerance"])
    assert said["probability"] == pytest.approx(probability(0.0, 2.0), abs=1e-6)
    assert logged(home)[said["id"]]["prediction"] == [said["probability"]]


def test_the_model_says_what_it_is(client: httpx.Client) -> None:
    said = client.get("/model").json()
    assert (said["problem"], said["version"], said["card"]) == ("parcels", "v1", "# Tiny\n")


def test_what_is_unknown_stale_or_missing_is_said(client: httpx.Client) -> None:
    assert ask(client, "P2").json()["unknown_categories"] == ["kind"]
    assert ask(client, "P1", 2).json()["missing_or_stale"] == ["depots"]  # three hours old, good for two
    assert ask(client, "P1", None).json()["missing_or_stale"] == ["depots"]
    nobody = ask(client, "nobody").json()
    assert (nobody["missing_or_stale"], nobody["probability"]) == (["parcels"], pytest.approx(0.5))
    before = (NOON - timedelta(hours=2, minutes=1)).isoformat()
    assert ask(client, "P1", prediction_time=before).json()["feature_times"] == {"parcels": None, "depots": None}


def test_an_answer_from_nothing_says_so_loudly(client: httpx.Client) -> None:
    """Asked about an instant before anything was known; and one of two views isn't most of them."""
    body = {"parcel": "P1", "depot": 1, "prediction_time": "2013-11-02T00:00:00Z"}
    loud = (
        "2 of 2 feature views have no usable row for this entity at 2013-11-02T00:00:00+00:00 (parcels, depots); the "
        "online store is filled until 2024-05-01T12:00:00+00:00. The answer rests on little or nothing."
    )
    assert client.post("/predict", json=body).json()["warning"] == loud
    assert client.post("/explain", json=body).json()["warning"] == loud
    assert client.post("/predict_batch", json={"requests": [body]}).json()["answers"][0]["warning"] == loud
    assert ask(client, "P1").json()["warning"] is None
    assert ask(client, "nobody").json()["warning"] is None
    described = client.get("/docs.json").json()["components"]["schemas"]
    assert [each.get("type") for each in described["Answer"]["properties"]["warning"]["anyOf"]] == ["string", "null"]


def test_the_example_is_a_real_entity_at_an_instant_at_which_its_features_are_known(
    client: httpx.Client, home: Settings
) -> None:
    example = {"parcel": "P1", "depot": 1, "prediction_time": NOON.isoformat()}
    built = json.loads((bento_folder(home, champion_tag(home)) / "src" / FIELDS).read_text())
    assert built["example"] == example
    assert built["candidates"] == [
        {"parcel": "P1", "depot": 1},
        {"parcel": "P2", "depot": 2},
        {"parcel": "P1", "depot": 1},
    ]

    def shown() -> dict[str, Any]:
        document = client.get("/docs.json").json()
        properties = document["paths"]["/explain"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return {name: each["examples"][0] for name, each in properties["properties"].items() if "examples" in each}

    assert shown() == example
    said = client.post("/explain", json=example).json()
    assert (said["missing_or_stale"], said["warning"]) == ([], None)
    later = NOON + timedelta(minutes=30)
    materialise(home, NOON, later)  # the running service shows until when the store is filled now
    assert shown() == example | {"prediction_time": later.isoformat()}
    materialise(home, None, NOON)
    assert shown() == example


@pytest.mark.parametrize("blank", ["", "   "])
def test_an_empty_key_is_refused(client: httpx.Client, blank: str) -> None:
    told = "parcel: is empty; a key names something (a join key that isn't known is null)"
    for path in ("/predict", "/explain"):
        response = client.post(path, json={"parcel": blank, "depot": 1})
        assert (response.status_code, response.json()["detail"]) == (400, told)
    rows = [{"parcel": blank, "depot": 1}, {"parcel": "P1", "depot": 1}]
    said = client.post("/predict_batch", json={"requests": rows}).json()
    assert (said["failed"], said["answers"][0]["detail"]) == (1, told)


def test_time_is_the_homes_where_none_is_given(client: httpx.Client) -> None:
    assert ask(client, "P1", prediction_time=None).json()["prediction_time"] == "2013-11-01T00:00:00+00:00"


def test_a_record_is_there_when_the_answer_is(client: httpx.Client, home: Settings) -> None:
    for _ in range(20):
        said = ask(client, "P1").json()
        record = logged(home)[said["id"]]
        assert (record["prediction"], record["decision"]) == ([said["probability"]], str(said["decision"]))
        assert record["entity"] == {"parcel": "P1", "depot": 1}
        assert record["features"] == {"weight": 2.0, "kind": "box"}
    assert ask(client, "P1", request_id="mine").json()["id"] == "mine"


def test_a_batch_answers_what_can_be_answered(client: httpx.Client, home: Settings) -> None:
    at = {"depot": 1, "prediction_time": NOON.isoformat()}
    rows = [{"parcel": "P1"} | at, {"parcel": "P1"}, {"parcel": "P2"} | at] * 40
    said = client.post("/predict_batch", json={"requests": rows}).json()
    assert said["failed"] == 40
    assert [answer.get("detail") for answer in said["answers"][:3]] == [None, "depot: missing field", None]
    assert said["answers"][0]["probability"] == pytest.approx(probability(0.0, 2.0), abs=1e-6)
    assert said["answers"][2]["unknown_categories"] == ["kind"]
    assert {answer["id"] for answer in said["answers"] if "id" in answer} <= set(logged(home))
    too_many = client.post("/predict_batch", json={"requests": [{"parcel": "P1", "depot": 1}] * 201})
    assert (too_many.status_code, "at most 200" in too_many.json()["detail"]) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "detail"),
    [
        ("POST", "/predict", b'{"parcel": "P1"', 400, "body: Invalid JSON"),
        ("POST", "/predict", b'{"parcel": "P1", "depot": "1"}', 400, "depot: should be a valid integer"),
        ("POST", "/predict", b'{"parcel": "P1", "depot": 2147483648}', 400, "depot: should be less than or equal to 2"),
        ("POST", "/predict", b'{"parcel": "P1", "depot": 1, "wieght": 2}', 400, "wieght: unknown field"),
        ("POST", "/predict", b" " * (2 * 1024 * 1024), 413, "longer than 1048576 bytes"),
        ("GET", "/predict", b"", 405, "Method Not Allowed"),
        ("GET", "/nothing", b"", 404, "Not Found"),
    ],
)  # fmt: skip
def test_errors_are_problem_details(
    client: httpx.Client, method: str, path: str, content: bytes, status: int, detail: str
) -> None:
    response = client.request(method, path, content=content)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == {"type", "title", "status", "detail"}
    assert detail in response.json()["detail"]
    assert "Traceback" not in response.text


def test_a_body_without_a_length_is_limited_too(client: httpx.Client) -> None:
    parts = [b'{"parcel": "P1", ', b'"depot": 1}']
    assert client.post("/predict", content=iter(parts)).status_code == 200
    assert client.post("/predict", content=(b" " * 65536 for _ in range(32))).status_code == 413


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_only_json_is_read(client: httpx.Client, kind: str) -> None:
    response = client.post("/predict", content=b'{"parcel": "P1", "depot": 1}', headers={"content-type": kind})
    assert (response.status_code, "Send JSON" in response.json()["detail"]) == (415, True)


def test_the_schema_has_the_problems_own_fields(client: httpx.Client) -> None:
    schema = client.get("/docs.json").json()
    request = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(request["properties"]) == {"parcel", "depot", "prediction_time", "request_id"}
    assert [each["type"] for each in request["properties"]["depot"]["anyOf"]] == ["integer", "null"]


def test_a_full_disk_is_said_and_nothing_is_answered(
    client: httpx.Client, server: tuple[subprocess.Popen[str], str]
) -> None:
    workers = [each.pid for each in processes(server[0])]
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in workers}
    try:
        for pid, (_, hard) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        response = ask(client, "P1")
        assert response.status_code == 503
        assert response.json()["detail"].startswith("The request can't be logged, so it isn't answered")
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    assert ask(client, "P1").status_code == 200


def test_champions_are_swapped_under_load_without_a_failed_request(client: httpx.Client, home: Settings) -> None:
    biases = {"v1": 0.0, "v2": 0.5, "v3": 1.0}
    stop, answers = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            answers.append(ask(client, "P1"))

    with ThreadPoolExecutor(4) as workers:
        loads = [workers.submit(load) for _ in range(4)]
        try:
            for version in ("v2", "v3"):
                promote(home, version, biases[version])
                wait_for(lambda version=version: client.get("/model").json()["version"] == version)
            broken = package(home, "v4", 2.0)
            champion.promote(home, "v4", NOON, home.verdicts / "verdict.json")
            (broken / "model.onnx").write_bytes(b"damaged")
            wait_for(lambda: client.get("/model").json()["refused"])
        finally:
            stop.set()
        for each in loads:
            each.result()
    assert {answer.status_code for answer in answers} == {200}
    said = [answer.json() for answer in answers]
    assert {one["model_version"] for one in said} == set(biases)
    for one in said:
        assert one["probability"] == pytest.approx(probability(biases[one["model_version"]], 2.0), abs=1e-6)
    model = client.get("/model").json()
    assert (model["version"], "checksum" in model["refused"]) == ("v3", True)
    metrics = client.get("/metrics").text.splitlines()
    assert any(line.startswith("hindcast_champion_refused") and line.endswith(" 1.0") for line in metrics)
    assert any(line.startswith("hindcast_champions_swapped_total") and line.endswith(" 2.0") for line in metrics)
    assert model["promoted_at"] == NOON.isoformat()


def test_a_challenger_in_shadow_is_asked_the_same_and_its_answers_are_never_returned(
    client: httpx.Client, home: Settings
) -> None:
    served = client.get("/model").json()["version"]
    package(home, "beside", -3.0)
    champion.set_shadow(home, "beside", NOON)
    wait_for(lambda: client.get("/model").json()["shadow"])
    said = {one["id"]: one for one in (ask(client, "P1").json() for _ in range(20))}
    assert {one["model_version"] for one in said.values()} == {served}
    wait_for(lambda: client.get("/model").json()["shadow"]["answered"] == 20)
    lines = [line for path in home.shadow_log.glob("*.jsonl") for line in path.read_text().splitlines()]
    beside = {record["id"]: record for record in map(json.loads, lines)}
    assert set(beside) == set(said)
    assert [record["prediction"][0] for record in beside.values()] == pytest.approx([probability(-3.0, 2.0)] * 20)
    champion.set_shadow(home, None, NOON)
    wait_for(lambda: client.get("/model").json()["shadow"] is None)


def test_a_bento_that_is_built_anew_leaves_the_running_one_alone(home: Settings, client: httpx.Client) -> None:
    """A server that runs from a folder needs it for its next champion, and for a worker that is started again."""
    problem, lake = load_problem(home.problem_file), Lake(home)
    champion.promote(home, "v1", NOON, home.verdicts / "verdict.json")
    first = build_bento(home, problem, lake)
    assert not first.built
    with lake.writing() as connection:
        connection.execute("ALTER TABLE labeled.parcels ALTER depot TYPE BIGINT")
    second = build_bento(home, problem, lake)
    assert second.built
    assert second.tag != first.tag
    assert (first.path / "bento.yaml").exists()
    assert champion_tag(home) == second.tag
    promote(home, "v1b", 0.5)
    wait_for(lambda: client.get("/model").json()["version"] == "v1b" or client.get("/model").json()["refused"])
    assert client.get("/model").json()["version"] == "v1b"


def test_kill_9_loses_no_acknowledged_record_and_each_becomes_one_row(home: Settings) -> None:
    promote(home, "v5", 0.0)
    acknowledged: list[str] = []

    def load(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=SILENCE) as client:
            while True:
                try:
                    acknowledged.append(ask(client, "P1").json()["id"])
                except httpx.TransportError:
                    return

    with started(home) as (starter, url), ThreadPoolExecutor(4) as workers:
        loads = [workers.submit(load, url) for _ in range(4)]
        wait_for(lambda: len(acknowledged) >= 100)
        for each in processes(starter):
            each.kill()
        for each in loads:
            each.result()
    on_file = logged(home)
    assert len(acknowledged) >= 100
    assert set(acknowledged) <= set(on_file)

    lake = Lake(home)
    for delay in (0.1, 0.3, 0.6):
        process = subprocess.Popen(
            [sys.executable, "-c", COMPACT], env=os.environ | home.environment(), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "begin\n"
        time.sleep(delay)
        process.kill()
        process.wait()
    done = compact(home.request_log, lake, "parcels.requests", "parcel")
    assert done.rows == len(on_file)
    with lake.reading() as connection:
        ids = connection.execute("SELECT id FROM parcels.requests").fetchall()
    assert {row[0] for row in ids} == set(on_file)


def test_a_killed_starter_leaves_no_orphan(server: tuple[subprocess.Popen[str], str]) -> None:
    """The last one: it takes the server from the others."""
    starter = server[0]
    left = processes(starter)
    assert len(left) >= 2  # the arbiter and its worker
    os.kill(starter.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(left, timeout=SILENCE)
    assert alive == []
