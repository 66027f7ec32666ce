"""What is Redis's own: round trips, what else lies in its database, a server that is away, its configuration.

That it answers as SQLite does is in `test_online`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from hindcast.errors import HindcastError
from hindcast.features.materialise import materialise
from hindcast.features.online import FeatureReader
from hindcast.settings import Settings
from tests.feature_world import at, make_world, register
from tests.redis_server import RedisServer, free_port, redis_server, use_redis

ROWS = [{"gauge": gauge, "river_id": river, "reach": 4} for gauge in ("A", "B", "Z") for river in (1, 2)]
NOW = [at("05 10:00")] * len(ROWS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def client_of(connection_string: str) -> Redis:
    server, _, database = connection_string.partition(",db=")
    host, _, port = server.partition(":")
    return Redis(host, int(port), int(database))


def filled_world(folder: Path, connection_string: str) -> Settings:
    settings = register(use_redis(make_world(folder), connection_string))
    materialise(settings, None, at("05 10:00"))
    return settings


def test_all_rows_and_views_of_a_request_are_one_round_trip(server: RedisServer, tmp_path: Path) -> None:
    reader = FeatureReader(filled_world(tmp_path, server.connection_string()), "floods")
    reader.read(ROWS, NOW)  # connects
    client = Redis("127.0.0.1", server.port)

    def reads() -> int:
        return client.info("stats")["total_reads_processed"]  # type: ignore[index]

    # The least of several: on a busy machine the server may take one message in two pieces.
    alone = min(-reads() + reads() for _ in range(10))

    def more() -> int:
        before = reads()
        reader.read(ROWS, NOW)
        return reads() - before - alone

    assert min(more() for _ in range(10)) == 1


def test_filling_afresh_leaves_what_is_not_the_projects(server: RedisServer, tmp_path: Path) -> None:
    place = server.connection_string()
    settings = filled_world(tmp_path / "here", place)
    there = use_redis(make_world(tmp_path / "there"), place)
    path = there.feature_repo / "feature_store.yaml"
    path.write_text(path.read_text().replace("project: hindcast", "project: another_hindcast"))
    register(there)
    materialise(there, None, at("05 07:00"))
    client = client_of(place)
    client.set("note", "somebody else's")
    before = client.dbsize()
    materialise(settings, None, at("05 09:00"))
    assert client.dbsize() == before
    assert client.get("note") == b"somebody else's"
    assert FeatureReader(there, "floods").read(ROWS, NOW).values["level"] == [10, 10, 7, 7, None, None]
    assert FeatureReader(settings, "floods").read(ROWS, NOW).values["level"] == [30, 30, 7, 7, None, None]


def test_keys_live_as_long_as_the_configuration_says(server: RedisServer, tmp_path: Path) -> None:
    place = server.connection_string()
    settings = use_redis(make_world(tmp_path), place)
    path = settings.feature_repo / "feature_store.yaml"
    path.write_text(f"{path.read_text()}  key_ttl_seconds: 1000\n")
    materialise(register(settings), None, at("05 10:00"))
    client = client_of(place)
    remaining = {key: client.ttl(key) for key in client.scan_iter()}
    assert remaining.pop(b"_filled:hindcast") == -1  # for ever
    assert len(remaining) == 5 and all(900 < each <= 1000 for each in remaining.values())


def test_a_server_that_is_away_is_said_and_found_again(tmp_path: Path) -> None:
    port = free_port()
    settings = register(use_redis(make_world(tmp_path), f"127.0.0.1:{port},password=secret"))
    reader = FeatureReader(settings, "floods")
    for ask in (lambda: reader.read(ROWS, NOW), lambda: materialise(settings, None, at("05 10:00"))):
        with pytest.raises(HindcastError, match=rf"^The online store at 127\.0\.0\.1:{port} can't be used: ") as raised:
            ask()
        assert "secret" not in str(raised.value)


def test_after_a_restart_of_the_server_the_reader_goes_on(tmp_path: Path) -> None:
    with redis_server(tmp_path) as first:
        settings = filled_world(tmp_path / "world", first.connection_string())
        reader = FeatureReader(settings, "floods")
        expected = reader.read(ROWS, NOW).values
    with pytest.raises(HindcastError, match="can't be used"):
        reader.read(ROWS, NOW)
    with redis_server(tmp_path, first.port):
        with pytest.raises(HindcastError, match="holds nothing of levels"):  # nothing is kept on disk here
            reader.read(ROWS, NOW)
        materialise(settings, None, at("05 10:00"))
        assert reader.read(ROWS, NOW).values == expected


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("connection_string: localhost", "begins 'localhost': write host:port"),
        ("connection_string: localhost:6379,colour=red", "unexpected keyword argument 'colour'"),
        ("redis_type: redis_cluster", r"feature_store\.yaml: .*redis_type"),
        ("skip_dedup: true", r"feature_store\.yaml: .*skip_dedup"),
    ],
)
def test_a_configuration_that_cant_keep_the_promises_is_refused(tmp_path: Path, section: str, message: str) -> None:
    settings = register(make_world(tmp_path))
    path = use_redis(settings, "localhost:6379").feature_repo / "feature_store.yaml"
    head, _, _ = path.read_text().rpartition("  connection_string")
    path.write_text(f"{head}  {section}\n")
    with pytest.raises(HindcastError, match=message):
        FeatureReader(settings, "floods").read(ROWS, NOW)


def test_feasts_stock_stores_are_refused(tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    path = settings.feature_repo / "feature_store.yaml"
    path.write_text(path.read_text().replace("hindcast.features.sqlite_online_store.NewestSqliteOnlineStore", "sqlite"))
    with pytest.raises(HindcastError, match="An online store of type sqlite lets older rows overwrite newer"):
        FeatureReader(settings, "floods").read(ROWS, NOW)
