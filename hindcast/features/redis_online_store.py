"""Feast's Redis online store, mended: what `online_store` promises, over a Redis server.

Keys and fields are like Feast's, but a key is of one view as it is defined (`online_store.online_name`).
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import mmh3
from google.protobuf.timestamp_pb2 import Timestamp
from redis import ConnectionError, Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from hindcast.errors import HindcastError
from hindcast.features.feast_imports import (
    EntityKey,
    FeatureView,
    RedisClient,
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    RedisType,
    RepoConfig,
    Value,
    deserialize_entity_key,
    serialize_entity_key,
)
from hindcast.features.online_store import (
    Filling,
    Held,
    HeldRow,
    NewestOnlineStore,
    Row,
    State,
    can_be_asked_for,
    common_state,
    online_name,
    serialized,
    view_of,
)

_KEYS_PER_COMMAND = 10_000
_TIMEOUTS = {"socket_connect_timeout": 2.0, "socket_timeout": 10.0}  # seconds

_Client = Any  # redis-py declares each command for its blocking and its asyncio client at once
_Version = tuple[datetime, datetime]  # event timestamp, and when the row came in


class NewestRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """The section `online_store` of `feature_store.yaml`, without what would break the store's promises.

    `connection_string` is `host:port`, with options of redis-py's client after commas: `redis:6379,db=1,ssl=true`.
    """

    type: Any = "hindcast.features.redis_online_store.NewestRedisOnlineStore"
    redis_type: Literal[RedisType.redis] = RedisType.redis  # a cluster has no transaction over all its keys
    client: Literal[RedisClient.redis] = RedisClient.redis
    skip_dedup: Literal[False] = False


class NewestRedisOnlineStore(NewestOnlineStore):
    """Reads and writes are one MULTI/EXEC transaction each: readers see all of a materialisation or nothing of it.

    The server answers nobody else while it carries a transaction out (about a second per million cells). Each writer
    watches the key `_filled:<project>`, which each writer changes: of two at once, one starts again. Not derived from
    Feast's: that reads keys without asking its subclass where they are.
    """

    _client: _Client = None

    def fill(
        self,
        config: RepoConfig,
        fillings: Sequence[Filling],
        known_until: datetime,
        snapshot: int,
    ) -> None:
        """See `NewestOnlineStore.fill`: one transaction."""
        self._write(config, fillings, (known_until, snapshot))

    def filled(self, config: RepoConfig) -> dict[str, datetime]:
        """See `NewestOnlineStore.filled`."""
        with self._connected(config) as client:
            found = client.hgetall(_filled(config))
        return {name: state[0] for name, state in _states(found).items() if state}

    def keep_only(self, config: RepoConfig, names: Collection[str]) -> None:
        """See `NewestOnlineStore.keep_only`: one transaction."""

        def change(pipe: _Client) -> None:
            others = [name for name in _states(pipe.hgetall(_filled(config))) if name not in names]
            gone = [key for name in others for key in _held_keys(client, config, name)]
            pipe.multi()
            _delete(pipe, gone)
            if others:
                pipe.hdel(_filled(config), *others)

        with self._connected(config) as client:
            client.transaction(change, _filled(config))

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Callable[[int], Any] | None
    ) -> None:
        """Feast's own way in: writes rows, except where the store holds something newer."""
        self._write(config, [Filling(table, data, afresh=False)])
        if progress:
            progress(len(data))

    def read_views(self, config: RepoConfig, asked: Sequence[tuple[str, Sequence[EntityKey], Sequence[str]]]) -> Held:
        """See `NewestOnlineStore.read_views`: one round trip."""
        with self._connected(config) as client, client.pipeline() as pipe:
            for name, keys, features in asked:
                view = view_of(config, name)
                fields = [*_stamp_fields(view), *(_field(view, feature) for feature in features)]
                for key in keys:
                    pipe.hmget(_key(config, name, key), fields)
            pipe.hgetall(_filled(config))
            *found, filled = pipe.execute()
        known_until, snapshot = common_state(config, [name for name, *_ in asked], _states(filled))
        answers = iter(found)
        rows = [[_row(next(answers), features) for _ in keys] for _, keys, features in asked]
        return Held(rows, known_until, snapshot)

    def _write(
        self,
        config: RepoConfig,
        fillings: Sequence[Filling],
        until: tuple[datetime, int] | None = None,
    ) -> None:
        names = [online_name(config, filling.view) for filling in fillings]
        cells = [_newest(config, name, filling) for name, filling in zip(names, fillings, strict=True)]

        def change(pipe: _Client) -> None:
            states = _states(pipe.hgetall(_filled(config)))
            fresh = [name for name, filling in zip(names, fillings, strict=True) if filling.afresh]
            gone = [key for name in fresh for key in _held_keys(client, config, name)]
            held = [
                {} if filling.afresh else _versions(client, view_of(config, name), list(mine))
                for name, filling, mine in zip(names, fillings, cells, strict=True)
            ]
            pipe.multi()
            _delete(pipe, gone)
            for mine, theirs in zip(cells, held, strict=True):
                for key, (version, mapping) in mine.items():
                    if key not in theirs or version >= theirs[key]:
                        pipe.hset(key, mapping=mapping)
                        if config.online_store.key_ttl_seconds:
                            pipe.expire(key, config.online_store.key_ttl_seconds)
            noted: dict[str, str] = {}  # changes, or at least touches, what the other writers watch
            for name in names:
                before = None if name in fresh else states.get(name)
                after = (max(until[0], before[0]) if before else until[0], until[1]) if until else before
                noted[name] = f"{after[0].astimezone(UTC).isoformat()} {after[1]}" if after else ""
            if noted:
                pipe.hset(_filled(config), mapping=noted)

        with self._connected(config) as client:
            client.transaction(change, _filled(config))

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> _Client:
        if not self._client:
            nodes, options = RedisOnlineStore._parse_connection_string(online_store_config.connection_string)
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


def _newest(config: RepoConfig, name: str, filling: Filling) -> dict[bytes, tuple[_Version, dict[str | bytes, bytes]]]:
    """By key, of its rows the newest: its version and the fields to write."""
    view = filling.view.name
    newest: dict[bytes, tuple[_Version, dict[str | bytes, bytes]]] = {}
    for entity_key, values, event, created in filter(can_be_asked_for, filling.rows):
        key = _key(config, name, entity_key)
        version = _utc(event), _utc(created or event)
        if key not in newest or version >= newest[key][0]:
            stamps = (_stamp(event), _stamp(created) if created else b"")
            cells = {_field(view, feature): value.SerializeToString() for feature, value in values.items()}
            newest[key] = version, dict(zip(_stamp_fields(view), stamps, strict=True)) | cells
    return newest


def _versions(client: _Client, view: str, keys: Sequence[bytes]) -> dict[bytes, _Version]:
    """Of what is held there now."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hmget(key, _stamp_fields(view))
        found = zip(keys, pipe.execute(), strict=True)
    return {key: (_instant(event), _instant(created or event)) for key, (event, created) in found if event}


def _held_keys(client: _Client, config: RepoConfig, name: str) -> list[bytes]:
    """The keys of all entities of a view."""
    suffix = name.encode()
    pattern = b"*" + re.sub(rb"([\\*?\[\]])", rb"\\\1", suffix)
    keys = client.scan_iter(pattern, count=_KEYS_PER_COMMAND)
    return [key for key in keys if _is_entity_key(key.removesuffix(suffix), config)]


def _delete(pipe: _Client, keys: Sequence[bytes]) -> None:
    for start in range(0, len(keys), _KEYS_PER_COMMAND):
        pipe.delete(*keys[start : start + _KEYS_PER_COMMAND])


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


def _key(config: RepoConfig, name: str, entity_key: EntityKey) -> bytes:
    return serialized(config, entity_key) + name.encode()


def _filled(config: RepoConfig) -> str:
    """Key that says how far each view is filled, by `online_name`; nothing where Feast's own way in was used alone."""
    return f"_filled:{config.project}"


def _states(filled: Mapping[bytes, bytes]) -> dict[str, State | None]:
    """Of the views that the store holds, from what its key `_filled` says."""
    words = {name.decode(): said.decode().split() for name, said in filled.items()}
    return {name: (datetime.fromisoformat(each[0]), int(each[1])) if each else None for name, each in words.items()}


def _stamp_fields(view: str) -> tuple[str, str]:
    """Fields of a row's event timestamp (Feast's) and of when it came in (empty where that isn't said)."""
    return f"_ts:{view}", f"_created:{view}"


@cache
def _field(view: str, feature: str) -> bytes:
    return mmh3.hash(f"{view}:{feature}", signed=False).to_bytes(4, "little")


def _stamp(instant: datetime) -> bytes:
    stamp = Timestamp()
    stamp.FromDatetime(_utc(instant))
    return stamp.SerializeToString()


def _instant(stamp: bytes) -> datetime:
    return Timestamp.FromString(stamp).ToDatetime(UTC)


def _utc(instant: datetime) -> datetime:
    """One without a zone is UTC."""
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
