"""Fixtures every tier of tests may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.clock import ManualClock
from embedfleet.settings import Settings
from support.redis_server import RedisServer
from support.redis_topologies import RedisClusterServers
from support.system import make_settings


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an embedded system in a directory of the test's own, with the stub model."""
    return make_settings(tmp_path)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for all tests of this process that do it no harm; see `redis_server`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """Empty, and to be left running as it was set up."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


@pytest.fixture(scope="session")
def shared_redis_cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as servers:
        yield servers


@pytest.fixture
def redis_cluster(shared_redis_cluster: RedisClusterServers) -> RedisClusterServers:
    """Empty, and to be left running as it was set up."""
    shared_redis_cluster.flush()
    return shared_redis_cluster
