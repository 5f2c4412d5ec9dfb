"""The brokers that benchmarks run through, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from embedfleet.clock import Clock
from embedfleet.queue.broker import Broker
from embedfleet.queue.memory_broker import MemoryBroker

OpenBroker = Callable[[Clock], AbstractAsyncContextManager[Broker]]
"""An empty broker that lives on the given clock, closed after the block."""


@asynccontextmanager
async def memory(clock: Clock) -> AsyncIterator[Broker]:
    broker = MemoryBroker(clock=clock)
    try:
        yield broker
    finally:
        await broker.close()


BROKERS: Mapping[str, OpenBroker] = {"memory": memory}
