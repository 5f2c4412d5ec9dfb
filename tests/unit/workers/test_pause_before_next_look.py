"""How long tenants are passed over before they are looked at again, and no claim looks at them sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import pytest

from embedfleet.clock import ManualClock
from embedfleet.errors import BrokerUnavailable
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import Stage
from embedfleet.settings import PoolsSettings, TenantsSettings
from embedfleet.workers.base_worker import pause_before_next_look
from embedfleet.workers.chunking_worker import Admittance
from support.pipeline_simulation import VirtualTimeLoop

REDIS_SECONDS_A_TENANT = 13e-6
"""What a look costs Redis: `crowded` and the claim together."""


def test_few_tenants_are_looked_at_fifty_times_a_second() -> None:
    assert pause_before_next_look(1, 1) == pause_before_next_look(40, 1) == 0.02


@pytest.mark.parametrize("tenants", [41, 500, 10_000])
@pytest.mark.parametrize("shards", [1, 6])
def test_the_looks_of_one_worker_take_no_more_than_a_thirtieth_of_redis(tenants: int, shards: int) -> None:
    """Until the pause is at its longest: then more tenants and shards cost more."""
    pause = pause_before_next_look(tenants, shards)
    if pause < 5.0:
        assert REDIS_SECONDS_A_TENANT * tenants * shards <= pause / 30


def test_the_first_document_of_another_tenant_is_seen_within_five_seconds() -> None:
    assert pause_before_next_look(100_000, 64) == 5.0


class Watched(MemoryBroker):
    """Notes who is asked about. All tenants in `full` have a full share."""

    def __init__(self) -> None:
        super().__init__(clock=ManualClock())
        self.asked: list[set[str]] = []
        self.full: set[str] = set()
        self.away = False

    async def crowded(
        self, stage: Stage, tenants: Collection[str], *, max_tasks: int, max_cost: int
    ) -> set[str]:
        if self.away:
            raise BrokerUnavailable("away")
        self.asked.append(set(tenants))
        return self.full & set(tenants)


def in_virtual_time(test: Callable[[Watched, Admittance], Coroutine[Any, Any, None]]) -> None:
    broker = Watched()
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(ManualClock(0.0))) as runner:
        runner.run(test(broker, Admittance(broker, PoolsSettings(), TenantsSettings())))


def test_claims_look_again_at_tenants_with_a_full_share_only_after_the_pause() -> None:
    names = {f"t{number}" for number in range(1_000)}

    async def test(broker: Watched, admittance: Admittance) -> None:
        broker.full = set(names)
        admittance.queued_for(names)
        assert await admittance.passed_over() == names
        admittance.queued_for(["other"])
        for _ in range(10):
            await asyncio.sleep(0.04)
            assert await admittance.passed_over() == names
        assert [asked for asked in broker.asked if asked] == [names, {"other"}], "0.5 s for a thousand"
        broker.full.discard("t7")
        await asyncio.sleep(0.11)
        assert await admittance.passed_over() == names - {"t7"}

    in_virtual_time(test)


def test_a_tenant_whose_tasks_were_queued_is_looked_at_before_the_next_claim() -> None:
    """So no tenant gets more than its share by the pause: it only comes back later."""

    async def test(broker: Watched, admittance: Admittance) -> None:
        admittance.queued_for(["a"])
        assert await admittance.passed_over() == set()
        broker.full = {"a"}
        admittance.queued_for(["a"])
        assert await admittance.passed_over() == {"a"}

    in_virtual_time(test)


def test_who_was_to_be_looked_at_is_not_forgotten_when_the_broker_is_away() -> None:
    async def test(broker: Watched, admittance: Admittance) -> None:
        admittance.queued_for(["a"])
        broker.full, broker.away = {"a"}, True
        with pytest.raises(BrokerUnavailable):
            await admittance.passed_over()
        broker.away = False
        assert await admittance.passed_over() == {"a"}

    in_virtual_time(test)
