"""The brokers that benchmarks run through, by name."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.clock import Clock, SystemClock
from embedfleet.queue.broker import Broker
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from support.redis_server import RedisServer, redis_settings

OpenBroker = Callable[[Clock], AbstractAsyncContextManager[Broker]]
"""An empty broker that lives on the given clock, closed after the block."""


@asynccontextmanager
async def memory(clock: Clock) -> AsyncIterator[Broker]:
    broker = MemoryBroker(clock=clock)
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def redis(clock: Clock) -> AsyncIterator[Broker]:
    """On a server of its own, reached by a unix socket."""
    with RedisServer() as server:
        own = None if isinstance(clock, SystemClock) else clock
        broker = await RedisBroker.open(redis_settings(server.url), clock=own)
        try:
            yield broker
        finally:
            await broker.close()


BROKERS: Mapping[str, OpenBroker] = {"memory": memory, "redis": redis}
