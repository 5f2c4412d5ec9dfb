"""The brokers that one suite runs over, and what its sentences are made of.

A new adapter joins by an entry in `BROKERS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable, LeaseLost
from embedfleet.queue import shards
from embedfleet.queue.broker import (
    MAX_COST,
    Broker,
    Lane,
    Lease,
    Task,
)
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.hangs import HANG_SECONDS
from support.redis_server import RedisServer, redis_settings
from support.redis_topologies import RedisClusterServers

STAGE = Stage.EMBEDDING
BURST = 3
SHARDS = 4
SPREAD = "redis in shards"
ONE_OF_SEVERAL = "redis, one of several shards"
LEASE_SECONDS = 60.0
ALL_OF_THEM = 1_000

_TRY_AGAIN_SECONDS = 0.02


async def memory_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    return MemoryBroker(clock=clock, interactive_burst=BURST)


async def redis_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    server: RedisServer = request.getfixturevalue("redis_server")
    return await open_redis(server.url, clock)


async def redis_cluster_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    servers: RedisClusterServers = request.getfixturevalue("redis_cluster")
    return await open_redis(servers.url, clock)


async def redis_shards_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    server: RedisServer = request.getfixturevalue("redis_server")
    return await open_redis(server.url, clock, shards=SHARDS)


async def one_shard_broker(request: pytest.FixtureRequest, clock: ManualClock) -> Broker:
    """All tasks are in the last of several shards."""
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(shards, "crc32", lambda _: SHARDS - 1)
    return await redis_shards_broker(request, clock)


async def open_redis(url: str, clock: ManualClock, **settings: Any) -> Broker:
    broker = await RedisBroker.open(
        redis_settings(url, **settings),
        clock=clock,
        interactive_burst=BURST,
        look_again_seconds=10 * HANG_SECONDS,  # so that who wakes was told
    )
    await broker.keep_shards()
    return broker


BROKERS = {
    "memory": memory_broker,
    "redis": redis_broker,
    "redis cluster": redis_cluster_broker,
    SPREAD: redis_shards_broker,
    ONE_OF_SEVERAL: one_shard_broker,
}


def task(
    task_id: str,
    *,
    tenant: str = "acme",
    job: str = "job",
    cost: int = 10,
    priority: int = 50,
    lane: Lane = Lane.BULK,
    alone: bool = False,
) -> Task:
    payload = f"payload of {task_id}".encode()
    return Task(task_id, tenant, job, cost, payload, priority=priority, lane=lane, alone=alone)


def tasks(tenant: str, n: int, *, cost: int = 10, lane: Lane = Lane.BULK) -> list[Task]:
    return [task(f"{tenant}{i}", tenant=tenant, cost=cost, lane=lane) for i in range(1, n + 1)]


async def claim(
    broker: Broker,
    max_tasks: int = ALL_OF_THEM,
    *,
    max_cost: int = MAX_COST,
    stage: Stage = STAGE,
    passing_over: Collection[str] = (),
) -> list[Lease]:
    return await broker.claim(
        stage,
        worker="w1",
        max_tasks=max_tasks,
        max_cost=max_cost,
        lease_seconds=LEASE_SECONDS,
        passing_over=passing_over,
    )


async def claim_all(broker: Broker) -> list[Lease]:
    """Claim until nothing is ready: the order of service, in however many claims."""
    leases: list[Lease] = []
    while claimed := await claim(broker):
        leases += claimed
    return leases


async def claim_one(broker: Broker, *, stage: Stage = STAGE) -> Lease:
    [lease] = await claim(broker, 1, stage=stage)
    return lease


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.task.id for lease in leases]


def tenants(leases: Sequence[Lease]) -> str:
    return "".join(lease.task.tenant for lease in leases)


async def expire(broker: Broker, clock: ManualClock) -> int:
    clock.advance(LEASE_SECONDS)
    return await broker.reap_expired(STAGE)


async def end_held(end: Callable[[Sequence[Lease]], Awaitable[list[Lease]]], lease: Lease) -> None:
    """End one lease by a call that takes many. Raises LeaseLost as the calls on a single lease do."""
    if lost := await end([lease]):
        assert lost == [lease]
        raise LeaseLost(f"task {lease.task.id!r}")


async def end_by_ack(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await end_held(broker.ack, lease)


async def end_by_retry(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.retry_later(lease, delay_seconds=5, reason="busy")


async def end_by_hand_back(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await end_held(broker.hand_back, lease)


async def end_by_dead_letter(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    await broker.dead_letter(lease, reason="poison")


async def end_by_expiry(broker: Broker, clock: ManualClock, lease: Lease) -> None:
    assert await expire(broker, clock) == 1


EndLease = Callable[[Broker, ManualClock, Lease], Awaitable[None]]
ENDINGS: list[EndLease] = [end_by_ack, end_by_retry, end_by_hand_back, end_by_dead_letter, end_by_expiry]


async def served_again(attempt: Callable[[], Awaitable[object]]) -> None:
    """Return when the attempt succeeds. A server sends no event when it is back, or when the servers agree
    who is primary, so the attempt is repeated."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                await attempt()
            except BrokerUnavailable:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
            else:
                return
