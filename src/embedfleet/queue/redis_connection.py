"""Connects a broker to Redis: it checks the server, and runs scripts over a pool of connections."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from loguru import logger
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, NoScriptError

from embedfleet.errors import BrokerUnavailable, ConfigError
from embedfleet.queue.redis_endpoint import Endpoint, parse_endpoint, secret_text
from embedfleet.queue.redis_errors import BROKEN_CONNECTION, REDIS_FAILURES, explained
from embedfleet.queue.redis_scripts import Script
from embedfleet.settings import RedisSettings

_OLDEST_SERVER = (6, 2)
_HEALTH_CHECK_SECONDS = 30
"""A connection that was idle for longer is checked before it is used."""

_Client = Redis | RedisCluster


class RedisConnection:
    """Runs scripts on the server that redis.url leads to, over at most `max_connections` connections.

    Raises the errors that `explained` makes. A script is sent once, with two exceptions. A script that is
    declared repeatable is sent again after its connection broke. A script that the server does not know
    (it restarted, or another server became the primary) is sent again with its source.
    """

    def __init__(self, client: _Client, settings: RedisSettings, where: str) -> None:
        self._client = client
        self._where = where
        # One connection is left for the subscription. A pool of redis-py raises when it is exhausted; the
        # semaphore makes callers wait instead.
        self._slots = settings.max_connections - 1
        self._free = asyncio.Semaphore(self._slots)
        self._closed = False

    @classmethod
    async def open(cls, settings: RedisSettings) -> Self:
        """Connect and check the server. Raises ConfigError for an unusable server, and BrokerUnavailable."""
        endpoint = parse_endpoint(settings)
        client, where = _make_client(endpoint, settings), str(endpoint)
        connection = cls(client, settings, where)
        try:
            await connection._check()
        except BaseException:
            await connection.close()
            raise
        return connection

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[bytes], *, repeatable: bool
    ) -> Any:
        with _cancellation_kept():
            try:
                async with self._free:
                    self._require_open()
                    return await self._run(script, keys, arguments, repeatable=repeatable)
            except REDIS_FAILURES as exc:
                raise explained(exc, self._where) from exc

    def listen(self) -> PubSub:
        """Return a connection for subscriptions. The caller closes it and handles `REDIS_FAILURES`."""
        return self._client.pubsub()

    async def close(self) -> None:
        """Make the calls under way fail, and wait until they have ended. Then no connection is open."""
        self._closed = True
        await self._disconnect()
        # When this has all slots, no call is under way. It releases them at once, so that a call that still
        # waits for a slot finds the connection closed.
        for _ in range(self._slots):
            await self._free.acquire()
        for _ in range(self._slots):
            self._free.release()
        await self._disconnect()  # a second time: a call may have opened a connection after the first

    async def _disconnect(self) -> None:
        await self._client.aclose()
        if isinstance(self._client, Redis):
            pool = self._client.connection_pool
            if isinstance(pool, SentinelConnectionPool):
                await pool.sentinel_manager.aclose()

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable(f"the connection to Redis at {self._where} is closed")

    async def _run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[bytes], *, repeatable: bool
    ) -> Any:
        call: tuple[Any, ...] = (len(keys), *keys, *arguments)
        try:
            return await self._send("EVALSHA", script.sha, *call)
        except NoScriptError:
            return await self._send("EVAL", script.source, *call)
        except BROKEN_CONNECTION:
            if not repeatable:
                raise
            return await self._send("EVAL", script.source, *call)

    async def _send(self, *command: Any) -> Any:
        try:
            return await self._client.execute_command(*command)
        except AttributeError as exc:
            # When one call finds that a node is gone, redis-py closes all connections to it. One that another
            # call is just opening has no stream then ("'NoneType' object has no attribute 'writelines'").
            raise RedisConnectionError("the connection was closed while it was opened") from exc

    async def _check(self) -> None:
        try:
            for info in await self._describe():
                self._require_usable(info)
        except NoPermissionError:
            logger.warning(
                "Redis at {} does not say how it is set up (INFO is forbidden): make sure that its "
                "maxmemory-policy is noeviction",
                self._where,
            )
        except REDIS_FAILURES as exc:
            raise explained(exc, self._where) from exc

    async def _describe(self) -> list[Mapping[str, Any]]:
        """Return the INFO of every server that holds keys."""
        if isinstance(self._client, RedisCluster):
            answers = await self._client.info(target_nodes=RedisCluster.PRIMARIES)
            return [answers] if "redis_version" in answers else list(answers.values())
        return [await self._client.info()]

    def _require_usable(self, info: Mapping[str, Any]) -> None:
        version = str(info.get("redis_version", ""))
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST_SERVER:
            raise ConfigError(f"Redis at {self._where} has version {version!r}; it must be 6.2 or newer")
        if info.get("role") == "slave":
            raise ConfigError(
                f"Redis at {self._where} is a read-only replica; redis.url must lead to the primary"
            )
        policy = info.get("maxmemory_policy")
        if policy is None:
            logger.warning("Redis at {} hides its maxmemory-policy: it must be noeviction", self._where)
        elif policy != "noeviction":
            raise ConfigError(
                f"Redis at {self._where} has maxmemory-policy {policy}, which drops tasks when memory is "
                "short; set maxmemory-policy to noeviction"
            )


@contextmanager
def _cancellation_kept() -> Iterator[None]:
    """Raise CancelledError at the end of the block if the running task was cancelled in the block.

    redis-py uses `asyncio.wait_for`. In Python 3.11 it loses a cancellation that arrives together with its
    result, and the worker would not stop.
    """
    task = asyncio.current_task()
    assert task is not None
    requests_before = task.cancelling()
    try:
        yield
    finally:
        if task.cancelling() > requests_before:
            raise asyncio.CancelledError


def _make_client(endpoint: Endpoint, settings: RedisSettings) -> _Client:
    shared: dict[str, Any] = {
        "username": endpoint.username,
        "password": endpoint.password,
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "socket_timeout": settings.socket_timeout_seconds,
        "health_check_interval": _HEALTH_CHECK_SECONDS,
        # No retries by the client: it would repeat a claim too. `_run` repeats repeatable scripts only.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": settings.max_connections,
    }
    ca_file = None if settings.tls_ca_file is None else str(settings.tls_ca_file)
    tls: dict[str, Any] = {"ssl_ca_certs": ca_file} if endpoint.tls else {}
    match endpoint.kind:
        case "cluster":
            return _cluster(endpoint, shared | ({"ssl": True} | tls if endpoint.tls else {}))
        case "sentinel":
            return _sentinel(endpoint, settings, shared | {"db": endpoint.db, "ssl": endpoint.tls} | tls)
        case "socket":
            where: dict[str, Any] = {"path": endpoint.path}
            kind: type[AbstractConnection] = UnixDomainSocketConnection
        case "server":
            [(host, port)] = endpoint.hosts
            where = {"host": host, "port": port}
            kind = SSLConnection if endpoint.tls else Connection
    pool = ConnectionPool(connection_class=kind, db=endpoint.db, **where, **shared, **tls)
    return Redis.from_pool(pool)


def _cluster(endpoint: Endpoint, shared: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in endpoint.hosts]
    return RedisCluster(startup_nodes=nodes, **shared)


def _sentinel(endpoint: Endpoint, settings: RedisSettings, shared: dict[str, Any]) -> Redis:
    """Return a client that asks the sentinels for the primary whenever it opens a connection."""
    own = {
        "username": settings.sentinel_username,
        "password": secret_text(settings.sentinel_password),
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "socket_timeout": settings.socket_timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    tls = {name: value for name, value in shared.items() if name.startswith("ssl")}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        endpoint.hosts, sentinel_kwargs=own | (tls if endpoint.tls else {})
    )
    primary: Redis = sentinel.master_for(endpoint.service, **shared)
    return primary
