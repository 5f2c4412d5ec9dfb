"""Expired leases end and delayed tasks come back in every stage that answers."""

from __future__ import annotations

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable
from embedfleet.leader.broker_upkeep import BrokerUpkeep
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import Stage


class OneStageAway(MemoryBroker):
    """The server of the first stage does not answer."""

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        if stage is Stage.CHUNKING:
            raise BrokerUnavailable("its server is away")
        return await super().reap_expired(stage, limit=limit)


async def test_a_stage_that_is_away_fails_the_step_after_the_others_were_done() -> None:
    clock, metrics = ManualClock(), Metrics()
    broker = OneStageAway(clock=clock)
    for stage in Stage:
        await broker.enqueue(stage, [Task("a", "acme", "job", 1, b"")])
        assert await broker.claim(stage, worker="w", max_tasks=1, max_cost=1, lease_seconds=60)
    clock.advance(61)
    with pytest.raises(BrokerUnavailable, match="away"):
        await BrokerUpkeep(broker=broker, metrics=metrics).step()
    ready = {stage for stage in Stage if (await broker.depth(stage)).ready}
    assert ready == set(Stage) - {Stage.CHUNKING}
    expired = metrics.lease_expiries_total.labels(Stage.STORAGE.value)
    assert expired._value.get() == 1
