"""Feast's Redis online store, mended: what `online_store` promises, over a Redis server.

Its keys and fields are Feast's, so that Feast's own reads find them too.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import zip_longest
from typing import Any, Literal

from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key, serialize_entity_key_prefix
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.redis import RedisClient, RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp
from redis import ConnectionError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from hindcast.errors import HindcastError
from hindcast.features.online_store import Held, HeldRow, NewestOnlineStore, Row, can_be_asked_for, serialized

_KEYS_PER_COMMAND = 10_000
_TIMEOUTS = {"socket_connect_timeout": 2.0, "socket_timeout": 10.0}  # seconds

_Client = Any  # redis-py declares each command for its blocking and its asyncio client at once
_Place = tuple[bytes, str]  # a key, and the view whose fields in it are meant
_Version = tuple[datetime, datetime]  # event timestamp, and when the row came in


class NewestRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """The section `online_store` of `feature_store.yaml`, without what would break the store's promises.

    `connection_string` is `host:port`, with options of redis-py's client after commas: `redis:6379,db=1,ssl=true`.
    """

    type: Any = "hindcast.features.redis_online_store.NewestRedisOnlineStore"
    redis_type: Literal[RedisType.redis] = RedisType.redis  # a cluster has no transaction over all its keys
    client: Literal[RedisClient.redis] = RedisClient.redis
    skip_dedup: Literal[False] = False


class NewestRedisOnlineStore(NewestOnlineStore, RedisOnlineStore):
    """Reads and writes are one MULTI/EXEC transaction each: readers see all of a materialisation or nothing of it.

    The server answers nobody else while it carries a transaction out (about a second per million cells). Each writer
    watches the key `_filled:<project>`, which each writer changes: of two at once, one starts again.
    """

    def fill(
        self,
        config: RepoConfig,
        rows: Sequence[tuple[FeatureView, Sequence[Row]]],
        known_until: datetime,
        snapshot: int,
        afresh: bool,
    ) -> None:
        """See `NewestOnlineStore.fill`: one transaction."""
        self._write(config, rows, (known_until, snapshot), afresh)

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Feast's own way in: writes rows, except where the store holds something newer."""
        self._write(config, [(table, data)])
        if progress:
            progress(len(data))

    def read_views(
        self, config: RepoConfig, asked: Sequence[tuple[FeatureView, Sequence[EntityKey], Sequence[str]]]
    ) -> Held:
        """See `NewestOnlineStore.read_views`: one round trip."""
        with self._connected(config) as client, client.pipeline() as pipe:
            for view, keys, features in asked:
                name = _name(config, view)
                fields = [*_stamp_fields(name), *(_field(name, feature) for feature in features)]
                for key in keys:
                    pipe.hmget(_key(config, key), fields)
            pipe.hgetall(_filled(config))
            *found, filled = pipe.execute()
        if not filled:
            raise HindcastError("The online store holds nothing yet: `hindcast run` fills it.")
        answers = iter(found)
        rows = [[_row(next(answers), features) for _ in keys] for _, keys, features in asked]
        known_until, snapshot = filled.get(b"known_until"), filled.get(b"snapshot")
        return Held(rows, known_until and _instant(known_until), None if snapshot is None else int(snapshot))

    def _write(
        self,
        config: RepoConfig,
        rows: Sequence[tuple[FeatureView, Sequence[Row]]],
        until: tuple[datetime, int] | None = None,
        afresh: bool = False,
    ) -> None:
        cells = [cell for view, new in rows for cell in _newest(config, view, new).items()]

        def change(pipe: _Client) -> None:
            filled: Mapping[bytes, bytes] = {} if afresh else pipe.hgetall(_filled(config))
            gone = _held_keys(client, config, [view for view, _ in rows]) if afresh else []
            held = [] if afresh else _versions(client, [place for place, _ in cells])
            pipe.multi()
            for start in range(0, len(gone), _KEYS_PER_COMMAND):
                pipe.delete(*gone[start : start + _KEYS_PER_COMMAND])
            for ((key, _), (version, mapping)), before in zip_longest(cells, held):
                if before is None or version >= before:
                    pipe.hset(key, mapping=mapping)
                    if config.online_store.key_ttl_seconds:
                        pipe.expire(key, config.online_store.key_ttl_seconds)
            noted: dict[str, Any] = {"written": 1}  # changes, or at least touches, what the other writers watch
            if until:
                known_until, snapshot = until
                if earlier := filled.get(b"known_until"):
                    known_until = max(known_until, _instant(earlier))
                noted |= {"known_until": _stamp(known_until), "snapshot": snapshot}
            if afresh:
                pipe.delete(_filled(config))
            pipe.hset(_filled(config), mapping=noted)

        with self._connected(config) as client:
            client.transaction(change, _filled(config))

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> _Client:
        if not self._client:
            nodes, options = self._parse_connection_string(online_store_config.connection_string)
            if len(nodes) != 1 or not str(nodes[0].get("port")).isdigit():
                raise HindcastError(
                    f"The online store's connection_string begins {_server(online_store_config)!r}: write host:port."
                )
            # A connection that the server has closed meanwhile is opened again; who asks doesn't wait for more.
            again = {"retry": Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))}
            try:
                self._client = Redis(nodes[0]["host"], int(nodes[0]["port"]), **(_TIMEOUTS | options | again))
            except TypeError as error:
                raise HindcastError(f"The online store's connection_string: {error}.") from error
        return self._client

    @contextmanager
    def _connected(self, config: RepoConfig) -> Iterator[_Client]:
        try:
            yield self._get_client(config.online_store)
        except RedisError as error:
            raise HindcastError(f"The online store at {_server(config.online_store)} can't be used: {error}") from error


def _server(online_store: RedisOnlineStoreConfig) -> str:
    """What may be shown of where it is; a password may follow."""
    return online_store.connection_string.split(",")[0]


def _newest(
    config: RepoConfig, view: FeatureView, rows: Sequence[Row]
) -> dict[_Place, tuple[_Version, dict[str | bytes, bytes]]]:
    """Of each key's rows the newest: its version and the fields to write."""
    name = _name(config, view)
    newest: dict[_Place, tuple[_Version, dict[str | bytes, bytes]]] = {}
    for entity_key, values, event, created in filter(can_be_asked_for, rows):
        place = _key(config, entity_key), name
        version = _utc(event), _utc(created or event)
        if place not in newest or version >= newest[place][0]:
            stamps = (_stamp(event), _stamp(created) if created else b"")
            cells = {_field(name, feature): value.SerializeToString() for feature, value in values.items()}
            newest[place] = version, dict(zip(_stamp_fields(name), stamps, strict=True)) | cells
    return newest


def _versions(client: _Client, places: Sequence[_Place]) -> list[_Version | None]:
    """Of what is held there now."""
    with client.pipeline(transaction=False) as pipe:
        for key, name in places:
            pipe.hmget(key, _stamp_fields(name))
        return [(_instant(event), _instant(created or event)) if event else None for event, created in pipe.execute()]


def _held_keys(client: _Client, config: RepoConfig, views: Sequence[FeatureView]) -> list[bytes]:
    """The keys of all entities that the views have."""
    project, found = config.project.encode(), []
    for names in {tuple(field.name for field in view.entity_columns) or (DUMMY_ENTITY_ID,) for view in views}:
        prefix = serialize_entity_key_prefix(list(names), config.entity_key_serialization_version)
        pattern = b"*".join(re.sub(rb"([\\*?\[\]])", rb"\\\1", part) for part in (prefix, project))
        keys = client.scan_iter(pattern, count=_KEYS_PER_COMMAND)
        found += [key for key in keys if _is_entity_key(key.removesuffix(project), config)]
    return found


def _is_entity_key(key: bytes, config: RepoConfig) -> bool:
    """Whether it is whole: what is left of a key of another project, whose name ends in this one's, isn't."""
    version = config.entity_key_serialization_version
    try:
        return serialize_entity_key(deserialize_entity_key(key, version), version) == key
    except ValueError:
        return False


def _row(values: Sequence[bytes | None], features: Sequence[str]) -> HeldRow | None:
    event, created, *cells = values
    if not event:
        return None
    held = {name: Value.FromString(cell) for name, cell in zip(features, cells, strict=True) if cell is not None}
    return HeldRow(_instant(event), _instant(created) if created else None, held)


def _key(config: RepoConfig, entity_key: EntityKey) -> bytes:
    return serialized(config, entity_key) + config.project.encode()


def _name(config: RepoConfig, view: FeatureView) -> str:
    return compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)


def _filled(config: RepoConfig) -> str:
    return f"_filled:{config.project}"


def _stamp_fields(view: str) -> tuple[str, str]:
    """Fields of a row's event timestamp (Feast's) and of when it came in (empty where that isn't said)."""
    return f"_ts:{view}", f"_created:{view}"


@cache
def _field(view: str, feature: str) -> bytes:
    return _mmh3(f"{view}:{feature}")


def _stamp(instant: datetime) -> bytes:
    stamp = Timestamp()
    stamp.FromDatetime(_utc(instant))
    return stamp.SerializeToString()


def _instant(stamp: bytes) -> datetime:
    return Timestamp.FromString(stamp).ToDatetime(UTC)


def _utc(instant: datetime) -> datetime:
    """One without a zone is UTC."""
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
