"""Online features of the service `flight_delay`, its on-demand view included: our `FeatureReader.read`, which keeps
to the TTLs and gives each row its instant, beside Feast's own `get_online_features` on the same store, which our
materialisation has filled. Both in one process, call by call in turn, each for other flights; CPU time of a call.

Their values are compared as of three hours after the store was filled, when some are too old: Feast still gives those.

Bars, on SQLite: for one row at most 1.5 times Feast's median and 3 times its 99th percentile; for 100 rows in one call
at most Feast's median. Redis (or Valkey, its continuation) runs on this machine; CPU is that of the client alone.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench import homes
from bench.measure import Case, Row, Work, in_turn
from bench.training_set import SERVICE
from hindcast.settings import Settings

FILLED_UNTIL = datetime(2013, 12, 16, 14, tzinfo=UTC)
OUTAGE = timedelta(hours=3)  # without news; some views are too old by then
CALLS = {1: 2000, 100: 200}
"""Rows in a call -> calls per round; a tenth of them comes before and doesn't count."""
BARS = {(1, "p50"): 1.5, (1, "p99"): 3.0, (100, "p50"): 1.0}
STORES = ("SQLite", "Redis")


def run(settings: Settings, rounds: int) -> list[Row]:
    home = str(homes.year(settings).home)
    taken = in_turn({store: Case("bench.online:calling", (home, store)) for store in STORES}, rounds)
    table = []
    for store in STORES:
        for size in CALLS:
            for percentile in ("p50", "p99"):
                mine, theirs = (
                    statistics.median(one[f"{whose} {size} {percentile}"] for one in taken[store].results)
                    for whose in ("ours", "Feast")
                )
                bar = BARS.get((size, percentile)) if store == "SQLite" else None
                rows = f"{size} row{'s' if size > 1 else ''}"
                table.append(Row(f"CPU {percentile}, {rows}, {store}", "ms", mine, theirs, "Feast", at_most=bar))
        unlike = max(one["unlike"] for one in taken[store].results)
        table.append(Row(f"values unlike Feast's, TTL apart, {store}", "", unlike, 0, "limit", at_most=1))
        stale = taken[store].results[0]["stale"]
        table.append(Row(f"values given by Feast alone, being too old, {store}", "%", stale))
    return table


def calling(home: str, store: str) -> Work:
    """Fills the store and asks it; CPU milliseconds per call, and in how many values the two differ."""
    settings = homes.at(home)
    from hindcast.features.feature_service import find_service, open_store
    from hindcast.features.materialise import materialise
    from hindcast.features.online import FeatureReader
    from hindcast.lake import Lake

    with Lake(settings).reading() as connection:
        flights = connection.execute(
            f"SELECT {', '.join(homes.KEYS)} FROM {homes.ENTITIES} WHERE tail_number IS NOT NULL "
            "AND abs(epoch(prediction_time) - epoch(?)) < 36 * 3600 ORDER BY hash(flight_id)",
            [FILLED_UNTIL.replace(tzinfo=None)],
        ).to_arrow_table()
    rows = flights.to_pylist()

    def work() -> dict[str, float]:
        with _configured(settings, store) as configured:
            materialise(configured, None, FILLED_UNTIL)
            reader = FeatureReader(configured, SERVICE)
            feast = open_store(configured)
            service = find_service(feast, SERVICE)

            def ours(asked: list[dict[str, Any]], at: datetime = FILLED_UNTIL) -> dict[str, list[Any]]:
                return reader.read(asked, [at] * len(asked)).values

            def theirs(asked: list[dict[str, Any]]) -> dict[str, list[Any]]:
                answer: dict[str, list[Any]] = feast.get_online_features(service, asked).to_dict()
                return answer

            found: dict[str, float] = {}
            for size, calls in CALLS.items():
                seconds = _in_turn({"ours": ours, "Feast": theirs}, rows, size, calls)
                for whose, all_ in seconds.items():
                    cuts = statistics.quantiles(all_, n=100)
                    found |= {f"{whose} {size} p50": 1e3 * cuts[49], f"{whose} {size} p99": 1e3 * cuts[98]}
            computed = {field.name for view in feast.list_on_demand_feature_views() for field in view.features}
            left, right = ours(rows, FILLED_UNTIL + OUTAGE), theirs(rows)
            pairs = [
                pair for name in left if name not in computed for pair in zip(left[name], right[name], strict=True)
            ]
        found["unlike"] = sum(a is not None and a != b for a, b in pairs)
        found["stale"] = 100 * sum(a is None and b is not None for a, b in pairs) / len(pairs)
        return found

    return work


def _in_turn(
    readers: dict[str, Callable[[list[dict[str, Any]]], Any]], rows: list[dict[str, Any]], size: int, calls: int
) -> dict[str, list[float]]:
    """CPU seconds of each reader's calls, in turn."""
    seconds: dict[str, list[float]] = {whose: [] for whose in readers}
    warm_up = calls // 10
    for call in range(warm_up + calls):
        asked = [rows[(call * size + number) % len(rows)] for number in range(size)]
        for whose, read in readers.items():
            began = time.process_time()
            read(asked)
            if call >= warm_up:
                seconds[whose].append(time.process_time() - began)
    return seconds


@contextmanager
def _configured(settings: Settings, store: str) -> Iterator[Settings]:
    """The settings, with a feature repository that names the store."""
    if store == "SQLite":
        yield settings
        return
    from tests.redis_server import redis_server, use_redis

    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        shutil.copytree(settings.feature_repo, Path(folder, "feature_repo"))
        yield use_redis(replace(settings, root=Path(folder)), server.connection_string())
