"""The service `flight_delay` over HTTP: CPU of the server, its workers included, per request at 16 kept-alive
connections, and latency. The champion is the main job's, the requests are real flights at the clock's instant; each is
logged durably before it is answered. All servers have one worker and stand side by side, each asked in turn; the client
is a process of its own. OMP_NUM_THREADS is 1 where nothing else is said: so `hindcast` starts its service.

Bars:
- at most 1.5 times a bare ASGI app on uvicorn, written by hand, without framework, check or guard, that reads by the
  same `FeatureReader`, predicts by the same `ServedModel` and writes the same record;
- an eighth of an ordinary BentoML service, or less: the scikit-learn pipeline from joblib, a pandas frame, a typed
  request, all else by default. It is sent the features that ours has to read, and logs nothing. By default scikit-learn
  takes a thread per core for one row; to strive for: an eighth also of the same service with OMP_NUM_THREADS=1;
- without feature reads at most 1.5 times an ordinary FastAPI app. The store is replaced in both by the same dict in
  memory; both take the same typed request, call ONNX, write the same record and answer the same. Ours is the service's
  own code from its bento;
- 99 % of requests within 25 ms at half of saturation: sent at random instants, counted from when each was to be sent.
"""

import json
import shutil
import statistics
from contextlib import ExitStack
from typing import Any

import httpx
import psutil

from bench import serving_given, serving_home
from bench.measure import Case, Row, once, say
from hindcast.package.model import SIGNATURE, Signature
from hindcast.promotion.champion import champion_folder
from hindcast.serving.server import bento_folder, champion_tag
from hindcast.settings import Settings

CONNECTIONS = 16
REQUESTS, WARM_UP = 2000, 500
FEWER = 10  # times, of the peer that takes so much longer
BODIES = 1000
SECONDS = 10.0
CLOSE = 1e-5  # of two probabilities of the same features

OURS, BARE = "ours", "bare ASGI"
UNREAD, FASTAPI = "ours without reads", "FastAPI + ONNX"
PIPELINE, ONE_THREAD = "BentoML + scikit-learn", "BentoML + scikit-learn, one thread"


def run(settings: Settings, rounds: int) -> list[Row]:
    source = serving_home.finished(settings)
    home = serving_home.copied(source, "asked")
    bodies = serving_home.requests(source, BODIES)
    signature = Signature.from_json((champion_folder(home) / SIGNATURE).read_text())
    given = serving_given.write_features(home, signature.feature_service, signature.entity_key, bodies)
    serving_given.write_pipeline(source, home, given)
    entities = serving_home.write_lines(home.home / "entities.jsonl", bodies)
    wrapped = [{"features": each} for each in given]  # BentoML names its arguments
    features = serving_home.write_lines(home.home / "features.jsonl", wrapped)

    with ExitStack() as stack:
        servers: dict[str, tuple[int, psutil.Process]] = {
            OURS: stack.enter_context(serving_home.served(home)),
            BARE: stack.enter_context(_uvicorn(home, "bench.serving_bare:make_app", "--factory")),
            UNREAD: stack.enter_context(_without_reads(home)),
            FASTAPI: stack.enter_context(_uvicorn(home, "bench.serving_fastapi:app")),
            PIPELINE: stack.enter_context(_pipeline(home, None)),
            ONE_THREAD: stack.enter_context(_pipeline(home, "1")),
        }
        say("all serve")
        unlike = _differ({name: port for name, (port, _) in servers.items()}, bodies, wrapped)
        cpu: dict[str, list[float]] = {name: [] for name in servers}
        per_second: dict[str, list[float]] = {name: [] for name in servers}
        failed = 0.0
        for number in range(rounds):
            for name, (port, server) in servers.items():
                sent, less = (features, FEWER) if name in (PIPELINE, ONE_THREAD) else (entities, 1)
                if not number:
                    once(_closed(port, sent, WARM_UP // less))
                before = serving_home.cpu(server)
                done = once(_closed(port, sent, REQUESTS // less))["result"]
                cpu[name].append(1e3 * (serving_home.cpu(server) - before) / (REQUESTS // less))
                per_second[name].append(done["per_second"])
                failed += done["failed"]
                say(f"{number + 1}/{rounds} {name}: {cpu[name][-1]:.3f} ms CPU, {per_second[name][-1]:,.0f} per second")
    latency: list[dict[str, float]] = []
    with serving_home.served(home) as (port, _):  # nobody else is there
        once(_closed(port, entities, WARM_UP))
        for number in range(rounds):
            saturated = once(_closed(port, entities, REQUESTS))["result"]
            rate = saturated["per_second"] / 2
            order = (port, "/predict", entities, rate, SECONDS)
            paced = once(Case("bench.serving_load:paced", order))["result"]
            failed += saturated["failed"] + paced["failed"]
            latency.append(paced | {"saturation": saturated["per_second"]})
            say(f"{number + 1}/{rounds} {rate:,.0f} per second: p50 {paced['p50']:.1f} ms, p99 {paced['p99']:.1f} ms")

    mine = {name: statistics.median(taken) for name, taken in cpu.items()}
    p50, p99, most = (statistics.median(one[key] for one in latency) for key in ("p50", "p99", "saturation"))
    reading = "CPU per request, features read and logged"
    return [
        Row(reading, "ms", mine[OURS], mine[BARE], BARE, at_most=1.5),
        Row(reading, "ms", mine[OURS], mine[PIPELINE], PIPELINE, at_most=1 / 8),
        Row(reading, "ms", mine[OURS], mine[ONE_THREAD], ONE_THREAD, at_most=1 / 8, stretch=True),
        Row("CPU per request, no reads, logged", "ms", mine[UNREAD], mine[FASTAPI], FASTAPI, at_most=1.5),
        Row(
            "requests per second at saturation", "", most, statistics.median(per_second[BARE]), f"{BARE}, beside others"
        ),
        Row(f"latency p50 at {most / 2:,.0f} per second", "ms", p50),
        Row(f"latency p99 at {most / 2:,.0f} per second", "ms", p99, 25, "limit", at_most=1),
        Row("failed requests", "", failed, 0, "limit", at_most=1),
        Row(f"probabilities that differ among the servers by over {CLOSE:g}", "", unlike, 0, "limit", at_most=1),
    ]


def _closed(port: int, bodies: str, count: int) -> Case:
    return Case("bench.serving_load:closed", (port, "/predict", bodies, count, CONNECTIONS))


def _uvicorn(home: Settings, *app: str) -> Any:
    options = ("--port", "{port}", "--no-access-log", "--log-level", "warning", "--lifespan", "off")
    return serving_home.started(home, "-m", "uvicorn", *app, *options)


def _bentoml(service: str, folder: str) -> tuple[str, ...]:
    return ("-m", "bentoml", "serve", service, "--working-dir", folder, "--host", "127.0.0.1", "--port", "{port}")


def _pipeline(home: Settings, threads: str | None) -> Any:
    service = _bentoml("bench.serving_pipeline:Pipeline", str(home.root))
    return serving_home.started(home, *service, OMP_NUM_THREADS=threads)


def _without_reads(home: Settings) -> Any:
    """The service's code as it is in the bento, with one line more: its features come from memory."""
    folder = home.home / "without_reads"
    shutil.copytree(bento_folder(home, champion_tag(home)) / "src", folder)
    with (folder / "service.py").open("a") as code:
        code.write("\nfrom bench.serving_given import MemoryReader\nconnect = lambda model: MemoryReader(SETTINGS)\n")
    return serving_home.started(home, *_bentoml("service:Hindcast", str(folder)), PYTHONPATH=str(home.root))


def _differ(ports: dict[str, int], bodies: list[dict[str, Any]], given: list[dict[str, Any]]) -> int:
    """For how many of some requests a server says otherwise than ours."""
    unlike = 0
    with httpx.Client(trust_env=False, timeout=30) as client:
        for body, features in list(zip(bodies, given, strict=True))[:100]:
            said = {}
            for name, port in ports.items():
                sent = features if name in (PIPELINE, ONE_THREAD) else body
                answer = (
                    client.post(
                        f"http://127.0.0.1:{port}/predict",
                        content=json.dumps(sent),
                        headers={"content-type": "application/json"},
                    )
                    .raise_for_status()
                    .json()
                )
                said[name] = answer["probability"]
            unlike += sum(abs(each - said[OURS]) > CLOSE for each in said.values())
    return unlike
