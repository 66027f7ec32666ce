"""The online stores and their reader: the same answers as offline, nothing too old, nothing from the future.

Each test runs on SQLite and on a Redis server of the module's own.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from hindcast.errors import HindcastError
from hindcast.features.feature_service import find_service, open_online_store, service_features, service_views
from hindcast.features.materialise import materialise
from hindcast.features.on_demand import input_features
from hindcast.features.online import FeatureReader, FeatureRows
from hindcast.features.online_store import Filling, Row
from hindcast.features.retrieval import Retrieval
from hindcast.features.store import historical_features, open_store
from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.feature_world import at, make_world, register, river_problem
from tests.redis_server import redis_server, use_redis

MakeWorld = Callable[[Path], Settings]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeWorld]:
    """Makes worlds that are registered and whose online store, of the kind tested, is their own."""
    if request.param == "sqlite":
        yield lambda folder: register(make_world(folder))
        return
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield lambda folder: register(use_redis(make_world(folder), server.connection_string()))


@pytest.fixture(scope="module")
def world(make: MakeWorld, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make(tmp_path_factory.mktemp("world"))
    materialise(settings, None, at("05 10:00"))
    return settings


def entity(gauge: str | None = "A", river: int | None = 1, reach: int = 4) -> dict[str, Any]:
    return {"gauge": gauge, "river_id": river, "reach": reach}


def read_one(settings: Settings, instant: datetime, **keys: Any) -> tuple[dict[str, Any], FeatureRows]:
    found = FeatureReader(settings, "floods").read([entity(**keys)], [instant])
    return {name: column[0] for name, column in found.values.items()}, found


def test_features_come_in_the_services_order_with_the_instant_they_became_known(world: Settings) -> None:
    values, found = read_one(world, at("05 10:00"))
    assert list(values.items()) == [
        ("level", 31),
        ("state", "high"),
        ("boats", None),
        ("share", 31 * 4 / 120),
        ("dry", 0),
        ("phase", 0.25),
    ]
    assert found.known_at == {"levels": [at("05 09:05")], "rivers": [at("05 08:00")], "moon": [at("04 00:00")]}
    assert found.stale == [[]]
    assert found.as_of == at("05 10:00")


def test_the_edge_of_the_ttl_counts_and_what_is_older_is_missing_on_demand_as_well(world: Settings) -> None:
    edge = at("05 15:00")  # levels live for six hours
    assert read_one(world, edge)[0]["level"] == 31
    values, found = read_one(world, edge + timedelta(microseconds=1))
    assert (values["level"], values["state"], values["share"], values["dry"]) == (None, None, None, 1)
    assert found.stale == [["levels"]]
    assert found.known_at["levels"] == [None]


def test_what_became_known_after_the_request_is_not_used(world: Settings) -> None:
    values, found = read_one(world, at("05 08:30"))
    assert (values["level"], values["boats"]) == (None, None)
    assert found.stale == [["levels"]]  # the river's row of 08:00 says that it has no boats


def test_missing_and_unknown_keys_have_no_features(world: Settings) -> None:
    reader = FeatureReader(world, "floods")
    found = reader.read([entity(None), entity("Z", 99), entity("A", None)], [at("05 10:00")] * 3)
    assert found.values["level"] == [None, None, 31]
    assert found.stale == [["levels"], ["levels", "rivers"], ["rivers"]]


def test_rows_keep_their_order_and_each_its_own_instant(world: Settings) -> None:
    asked = [(entity("A"), at("05 15:30")), (entity("B", 2), at("05 10:00")), (entity("A"), at("05 10:00"))] * 50
    found = FeatureReader(world, "floods").read(*map(list, zip(*asked, strict=True)))
    assert found.values["level"] == [None, 7, 31] * 50
    assert FeatureReader(world, "floods").read([], []).values["level"] == []


@pytest.mark.parametrize(
    ("row", "instant", "message"),
    [
        ({"gauge": "A", "reach": 1}, at("05 10:00"), "Row 0 lacks river_id"),
        ({"gauge": "A", "river_id": 1}, at("05 10:00"), "Row 0 lacks reach"),
        (entity(), datetime(2020, 1, 5), "has no time zone"),
        (entity(river="one"), at("05 10:00"), "Join key river_id must be of type int, not 'one'"),
        (entity(gauge=5), at("05 10:00"), "Join key gauge must be of type str, not 5"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    world: Settings, row: dict[str, Any], instant: datetime, message: str
) -> None:
    with pytest.raises(HindcastError, match=message):
        FeatureReader(world, "floods").read([row], [instant])


def test_a_reader_needs_a_registry_a_service_and_a_filled_store(
    make: MakeWorld, world: Settings, tmp_path: Path
) -> None:
    with pytest.raises(HindcastError, match="No feature service droughts; there are: floods"):
        FeatureReader(world, "droughts")
    settings = make(tmp_path)
    settings.online_store.unlink(missing_ok=True)
    with pytest.raises(HindcastError, match="online store holds nothing"):
        read_one(settings, at("05 10:00"))
    settings.feast_registry.unlink()
    with pytest.raises(HindcastError, match="No Feast registry"):
        FeatureReader(settings, "floods")


def test_eight_threads_read_the_same_as_one(world: Settings) -> None:
    reader = FeatureReader(world, "floods")
    asks = [([entity(gauge, river)], [at("05 10:00")]) for gauge in ("A", "B", "Z", None) for river in (1, 2, 3)] * 20
    expected = [reader.read(*ask).values for ask in asks]
    with ThreadPoolExecutor(8) as threads:
        assert [found.values for found in threads.map(lambda ask: reader.read(*ask), asks)] == expected


def write(settings: Settings, *rows: tuple[str, datetime, datetime | None, int]) -> None:
    store = open_store(settings)
    cells: list[Row] = [
        (
            EntityKey(join_keys=["gauge"], entity_values=[Value(string_val=gauge)]),
            {"level": Value(int32_val=level)},
            told,
            created,
        )
        for gauge, told, created, level in rows
    ]
    open_online_store(store.config).online_write_batch(store.config, store.get_feature_view("levels"), cells, None)


def test_older_never_overwrites_newer(make: MakeWorld, tmp_path: Path) -> None:
    settings = make(tmp_path)
    write(settings, ("A", at("05 09:00"), at("05 09:05"), 1))
    write(settings, ("A", at("05 08:00"), at("05 23:00"), 2))  # an older event, though written down later
    write(settings, ("A", at("05 09:00"), at("05 09:04"), 3))  # the same event, written down earlier
    write(settings, ("A", at("05 09:00"), None, 4))  # the same, written down at once
    assert read_one(settings, at("05 10:00"))[0]["level"] == 1
    write(settings, ("A", at("05 09:00"), at("05 09:05"), 5))  # the same once more: the last word
    assert read_one(settings, at("05 10:00"))[0]["level"] == 5
    write(settings, ("A", at("05 09:01"), None, 6))
    assert read_one(settings, at("05 10:00"))[0]["level"] == 6
    write(settings, ("A", at("05 09:03"), None, 8), ("A", at("05 09:02"), None, 7))  # in one go, the newer one first
    assert read_one(settings, at("05 10:00"))[0]["level"] == 8


def test_a_row_is_used_from_when_it_came_in_and_ages_from_its_event(make: MakeWorld, tmp_path: Path) -> None:
    settings = make(tmp_path)
    write(settings, ("A", at("05 09:00"), at("05 11:00"), 1))  # two hours late; levels live for six
    assert read_one(settings, at("05 11:00") - timedelta(microseconds=1))[0]["level"] is None
    values, found = read_one(settings, at("05 11:00"))
    assert (values["level"], found.known_at["levels"]) == (1, [at("05 11:00")])
    assert read_one(settings, at("05 15:00"))[0]["level"] == 1
    assert read_one(settings, at("05 15:01"))[0]["level"] is None


@pytest.fixture
def new_york() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/New_York"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def test_instants_are_exact_whatever_the_machines_time_zone(make: MakeWorld, tmp_path: Path, new_york: None) -> None:
    settings = make(tmp_path)
    skipped = datetime(2013, 3, 10, 2, 30, 0, 250_001, tzinfo=UTC)  # in New York no clock showed 02:30 that night
    write(settings, ("A", skipped, None, 1))
    assert read_one(settings, skipped)[1].known_at["levels"] == [skipped]
    assert read_one(settings, skipped - timedelta(microseconds=1))[0]["level"] is None
    later = skipped + timedelta(microseconds=1)
    write(settings, ("A", later, None, 2))
    write(settings, ("A", skipped, None, 1))  # a microsecond older
    assert read_one(settings, later)[1].known_at["levels"] == [later]


Version = tuple[datetime, datetime | None]  # event timestamp, created


def random_history(
    draw: random.Random, end: datetime, gauges: list[str]
) -> dict[tuple[str, Version], tuple[int | None, str | None]]:
    """Rows of the ten hours before the end: late ones, corrections of the same event or an older one, some to come."""
    history = {}
    for gauge in gauges:
        for _ in range(draw.randrange(6)):
            told = end - timedelta(minutes=draw.randrange(0, 600, 60))
            late = draw.choice([None, timedelta(minutes=draw.randrange(1, 30)), timedelta(minutes=draw.randrange(300))])
            version = told, None if late is None else told + late
            history[gauge, version] = draw.choice([None, draw.randrange(100)]), draw.choice([None, "low", "high"])
    return history


def known_at(version: Version) -> datetime:
    told, created = version
    return max(told, created or told)


def put_into_lake(settings: Settings, history: Mapping[tuple[str, Version], tuple[int | None, str | None]]) -> None:
    columns = zip(*[(gauge, *version, *values) for (gauge, version), values in history.items()], strict=True)
    names = ["gauge", "event_timestamp", "created", "level", "state"]
    table = pa.table(dict(zip(names, columns, strict=True)))
    with Lake(settings).writing() as connection:
        connection.register("history", table)
        connection.execute("DELETE FROM features.levels; INSERT INTO features.levels BY NAME FROM history")


def test_online_equals_offline_on_many_small_histories(make: MakeWorld, tmp_path: Path) -> None:
    """300 gauges, each with a history of its own, asked at instants of their own after the store was filled."""
    settings = make(tmp_path)
    draw, filled, gauges = random.Random(7), at("05 12:00"), [f"G{number}" for number in range(300)]
    history = random_history(draw, filled, gauges)
    put_into_lake(settings, history)
    asked = [entity(draw.choice([*gauges, None]), draw.choice([1, 2, 3, None])) for _ in range(600)]
    instants = [filled + timedelta(minutes=draw.randrange(0, 480, 60)) for _ in asked]
    rows = pl.DataFrame(asked).with_columns(
        pl.Series("event_timestamp", instants), pl.Series("filled_at", [filled] * len(asked))
    )
    store = open_store(settings)
    service = find_service(store, "floods")
    views, on_demand = service_views(store, service)
    wanted = service_features(service) + [each for view in on_demand for each in input_features(view)]
    refs = [f"{view}:{feature}" for view, feature in dict.fromkeys(wanted)]
    with Lake(settings).reading() as connection:
        retrieval = Retrieval(views, on_demand, refs, False, known_by="filled_at")
        offline = retrieval.run(connection, rows.to_arrow())
    expected = {name: offline[name].to_pylist() for name in ("level", "state", "boats", "share", "dry", "phase")}
    assert 100 < sum(level is not None for level in expected["level"]) < 500
    assert sum(known_at(version) > filled for _, version in history) > 20

    materialise(settings, None, filled)
    assert FeatureReader(settings, "floods").read(asked, instants).values == expected

    # Filled step by step, in whatever order, it holds the same.
    again = make(tmp_path / "again")
    put_into_lake(again, history)
    beginning, morning, noon = at("05 05:00"), at("05 09:00"), filled
    for start, end in [(morning, noon), (datetime(2019, 1, 1, tzinfo=UTC), beginning), (beginning, morning)]:
        materialise(again, start, end)
    found = FeatureReader(again, "floods").read(asked, instants)
    assert found.values == expected
    assert found.as_of == filled


def test_asked_about_the_past_it_gives_what_was_known_then_or_nothing(make: MakeWorld, tmp_path: Path) -> None:
    """The store holds one row per key: where that wasn't known yet, what was there before it is gone.

    And what is older than six hours at the time of filling, levels' TTL, isn't there at all.
    """
    settings = make(tmp_path)
    draw, filled, gauges = random.Random(8), at("05 12:00"), [f"G{number}" for number in range(300)]
    history = random_history(draw, filled, gauges)
    put_into_lake(settings, history)
    materialise(settings, None, filled)
    instants = [filled - timedelta(minutes=draw.randrange(0, 480, 10)) for _ in gauges]
    expected: list[int | None] = []
    for gauge, instant in zip(gauges, instants, strict=True):
        rows = [version for key, version in history if key == gauge and known_at(version) <= filled]
        held = [version for version in rows if version[0] >= filled - timedelta(hours=6)]
        newest = max(held, key=lambda version: (version[0], version[1] or version[0]), default=None)
        usable = newest and known_at(newest) <= instant and instant - newest[0] <= timedelta(hours=6)
        expected.append(history[gauge, newest][0] if newest and usable else None)
    found = FeatureReader(settings, "floods").read([entity(gauge) for gauge in gauges], instants)
    assert found.values["level"] == expected
    assert 20 < sum(level is not None for level in expected) < 200

    asked = pl.DataFrame([entity(gauge) for gauge in gauges]).with_columns(pl.Series("asked_at", instants))
    offline = historical_features(settings, river_problem(), asked)["level"].to_list()
    assert all(online in (None, then) for online, then in zip(expected, offline, strict=True))


def test_filling_afresh_forgets_what_became_known_later(make: MakeWorld, tmp_path: Path) -> None:
    settings = make(tmp_path)
    materialise(settings, None, at("05 10:00"))
    materialise(settings, at("05 05:00"), at("05 07:00"))  # older: changes nothing
    assert read_one(settings, at("05 10:00"))[0]["level"] == 31
    materialise(settings, None, at("05 07:00"))
    values, found = read_one(settings, at("05 10:00"))
    assert (values["level"], values["phase"], found.as_of) == (10, 0.25, at("05 07:00"))


def test_a_store_whose_file_is_gone_is_filled_afresh(tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    materialise(settings, None, at("05 10:00"))
    before = read_one(settings, at("05 10:00"))[0]
    settings.online_store.unlink()
    materialise(settings, None, at("05 10:00"))
    assert read_one(settings, at("05 10:00"))[0] == before


def test_what_is_read_says_until_when_it_was_known_and_from_which_snapshot(make: MakeWorld, tmp_path: Path) -> None:
    settings = make(tmp_path)

    def filled() -> tuple[datetime | None, int | None]:
        found = read_one(settings, at("05 10:00"))[1]
        return found.as_of, found.snapshot

    first = Lake(settings).snapshot()
    materialise(settings, None, at("05 09:00"))
    with Lake(settings).writing() as connection:
        connection.execute("UPDATE features.moon SET phase = 0.5")
    assert filled() == (at("05 09:00"), first)
    materialise(settings, at("05 05:00"), at("05 07:00"))  # brings older rows of a newer snapshot
    assert filled() == (at("05 09:00"), first + 1)
    materialise(settings, None, at("05 07:00"))
    assert filled() == (at("05 07:00"), first + 1)


def test_feasts_own_ways_in_and_out_find_the_same(make: MakeWorld, tmp_path: Path) -> None:
    expected_from, settings = make(tmp_path / "ours"), make(tmp_path / "feasts")
    materialise(expected_from, None, at("05 10:00"))
    expected = read_one(expected_from, at("05 10:00"))[0]
    store = open_store(settings)
    store.materialize(at("01 00:00") - timedelta(days=300), at("05 10:00"), ["levels", "rivers", "moon"])
    values, found = read_one(settings, at("05 10:00"))
    assert values == expected
    assert (found.as_of, found.snapshot) == (None, None)  # Feast doesn't say
    # Without moon: of a view without keys, Feast forgets in a shared cache what it needs itself.
    wanted = ["levels:level", "levels:state", "rivers:boats", "flow:share", "flow:dry"]
    answer = store.get_online_features(wanted, [entity()]).to_dict()
    assert {ref: answer[ref.split(":")[1]] for ref in wanted} == {ref: [expected[ref.split(":")[1]]] for ref in wanted}


def numbered(settings: Settings, number: int) -> list[Filling]:
    """A row of levels and one of moon that hold the same number; those of even numbers are filled afresh."""
    store, told = open_store(settings), at("05 00:00") + timedelta(seconds=number)
    gauge = EntityKey(join_keys=["gauge"], entity_values=[Value(string_val="A")])
    afresh = number % 2 == 0
    world = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
    return [
        Filling(store.get_feature_view("levels"), [(gauge, {"level": Value(int32_val=number)}, told, None)], afresh),
        Filling(store.get_feature_view("moon"), [(world, {"phase": Value(double_val=number)}, told, None)], afresh),
        Filling(store.get_feature_view("rivers"), [], afresh),
    ]


def test_a_reader_sees_all_of_a_filling_or_nothing_of_it(make: MakeWorld, tmp_path: Path) -> None:
    settings = make(tmp_path)
    config, fillings = open_store(settings).config, [numbered(settings, number) for number in range(150)]
    fill = partial(open_online_store(config).fill, config)
    fill(fillings[0], at("05 00:00"), 0)
    reader, done, seen = FeatureReader(settings, "floods"), threading.Event(), []

    def read_on() -> None:
        while not done.is_set():
            found = reader.read([entity()], [at("05 01:00")])
            assert found.as_of is not None
            seen.append((found.values["level"][0], found.values["phase"][0], found.snapshot, found.as_of))

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read_on) for _ in range(2)]
        for number, rows in enumerate(fillings):
            fill(rows, at("05 00:00") + timedelta(seconds=number), number)
        done.set()
        for each in readers:
            each.result()
    states = {(number, number, number, at("05 00:00") + timedelta(seconds=number)) for number in range(150)}
    assert set(seen) <= states
    assert len(set(seen)) > 1


def test_of_several_writers_at_once_the_newest_row_stays(make: MakeWorld, tmp_path: Path) -> None:
    settings = make(tmp_path)
    numbers = list(range(40))
    random.Random(3).shuffle(numbers)

    def write_one(number: int) -> None:
        write(settings, ("A", at("05 09:00") + timedelta(seconds=number), None, number))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_one, numbers))
    assert read_one(settings, at("05 10:00"))[0]["level"] == 39
