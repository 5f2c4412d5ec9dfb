"""Brokers on real Redis servers, and what their tests offer and claim."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from embedfleet.clock import ManualClock
from embedfleet.queue.broker import MAX_COST, Lease, Task
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from support.redis_server import RedisServer, redis_settings

STAGE = Stage.EMBEDDING
LEASE_SECONDS = 60.0
NEVER = 3600.0


def make_tasks(count: int, *, tenant: str = "acme", job: str = "job", payload: bytes = b"p") -> list[Task]:
    return [Task(f"{tenant}-{job}-{number}", tenant, job, 10, payload) for number in range(count)]


@asynccontextmanager
async def opened(
    server: RedisServer, *, look_again_seconds: float = 1.0, clock: ManualClock | None = None, **settings: Any
) -> AsyncIterator[RedisBroker]:
    """A broker with these settings of Redis, until the end of the block."""
    broker = await RedisBroker.open(
        redis_settings(server.url, **settings), look_again_seconds=look_again_seconds, clock=clock
    )
    try:
        yield broker
    finally:
        await broker.close()


async def claim(broker: RedisBroker, max_tasks: int = 1000, *, worker: str = "w") -> list[Lease]:
    return await broker.claim(
        STAGE, worker=worker, max_tasks=max_tasks, max_cost=MAX_COST, lease_seconds=LEASE_SECONDS
    )
