"""Shards in virtual time: the real `StageShards` over queues in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace
from itertools import count
from typing import Any, cast

from embedfleet.clock import ManualClock
from embedfleet.errors import LeaseLost
from embedfleet.queue.broker import Depth, Lane, Lease, Task, TenantShare
from embedfleet.queue.redis_scripts import StageScripts
from embedfleet.queue.room import ReadyWork
from embedfleet.queue.shards import KnownLayout, Layout
from embedfleet.queue.stage_queue import StageQueue
from embedfleet.queue.stage_shards import StageShards
from embedfleet.queue_schemas import Stage
from support.pipeline_simulation import BackloggedBroker, Tenant

EndLeases = Callable[[StageScripts, Sequence[Lease]], Awaitable[Sequence[Lease | None]]]


class ShardedBroker(BackloggedBroker):
    """What a pipeline asks of a broker, over `shards` queues for each stage."""

    def __init__(self, clock: ManualClock, tenants: Sequence[Tenant], shards: int) -> None:
        super().__init__(clock, tenants)
        layout = KnownLayout()
        layout.hear(Layout(1, shards, shards).encode())
        fences = count(1)
        self._in_shards: dict[Stage, StageShards] = {}
        for stage in Stage:
            queues = [
                StageQueue(stage, interactive_burst=8, shares=self._shares, fences=fences, deaths={})
                for _ in range(shards)
            ]
            own = [_MemoryShard(queue, number, clock, self) for number, queue in enumerate(queues)]
            self._in_shards[stage] = StageShards(cast(list[StageScripts], own).__getitem__, layout)
        self._works = {stage: asyncio.Event() for stage in Stage}

    def something_is_ready(self, stage: Stage) -> None:
        self._works[stage].set()

    async def set_shares(self, shares: Mapping[str, TenantShare]) -> None:
        self._shares.update(shares)

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        return await self._in_shards[stage].enqueue(tasks)

    async def claim(self, stage: Stage, **how: Any) -> list[Lease]:
        leases = await self._in_shards[stage].claim(
            8,
            how["worker"],
            how["max_tasks"],
            how["max_cost"],
            how["lease_seconds"],
            how.get("lane"),
            frozenset(how.get("passing_over", ())),
        )
        if stage is Stage.CHUNKING and leases:
            await self.submit([lease.task.tenant for lease in leases])
        return leases

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        return (
            await self._in_shards[leases[0].stage].each(leases, lambda shard, own: shard.ack(own))
            if leases
            else []
        )

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease]:
        return (
            await self._in_shards[leases[0].stage].each(leases, lambda shard, own: shard.hand_back(own))
            if leases
            else []
        )

    async def _each(self, leases: Sequence[Lease], act: EndLeases) -> list[Lease]:
        return await self._in_shards[leases[0].stage].each(leases, act) if leases else []

    async def renew(self, leases: Any, *, lease_seconds: float) -> list[Lease]:
        return list(leases)  # no lease expires here

    async def depth(self, stage: Stage) -> Depth:
        return await self._in_shards[stage].depth()

    async def crowded(
        self, stage: Stage, tenants: Collection[str], *, max_tasks: int, max_cost: int
    ) -> set[str]:
        asked = list(tenants)
        total, work = await self._in_shards[stage].crowded(asked)
        return {
            tenant
            for tenant, own in zip(asked, work, strict=True)
            if own.fills_its_share(total, max_tasks=max_tasks, max_cost=max_cost)
        }

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float, lane: Lane | None = None) -> bool:
        works = self._works[stage]
        works.clear()
        if await self._in_shards[stage].claimable(lane):
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await works.wait()
        except TimeoutError:
            return False
        return True


class _MemoryShard:
    """The operations of `StageScripts` that a pipeline needs, on a queue in memory."""

    def __init__(self, queue: StageQueue, number: int, clock: ManualClock, broker: ShardedBroker) -> None:
        self._queue = queue
        self._number = number
        self._clock = clock
        self._broker = broker

    async def enqueue(self, layout: str, tasks: Sequence[Task]) -> tuple[int, str]:
        new = self._queue.enqueue(tasks)
        self._broker.something_is_ready(self._queue._stage)
        return new, ""

    async def claim(
        self,
        interactive_burst: int,
        worker: str,
        max_tasks: int,
        max_cost: int,
        lease_seconds: float,
        lane: Lane | None,
        held: int,
        passing_over: Set[str],
    ) -> tuple[list[Lease], bool]:
        if held and (first := self._first(lane, passing_over)) and first.cost > max_cost:
            return [], True
        leases = self._queue.claim(
            self._clock.now(),
            worker=worker,
            max_tasks=max_tasks,
            max_cost=max_cost,
            lease_seconds=lease_seconds,
            passing_over=passing_over,
            lane=lane,
        )
        ends = len(leases) < max_tasks and self._first(lane, passing_over) is not None
        return [replace(lease, shard=self._number) for lease in leases], ends

    async def ack(self, leases: Sequence[Lease]) -> list[Lease | None]:
        return [_lost(lease, self._queue.ack) for lease in leases]

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease | None]:
        self._broker.something_is_ready(self._queue._stage)
        return [_lost(lease, self._queue.hand_back) for lease in leases]

    async def depth(self) -> Depth:
        return self._queue.depth()

    async def claimable(self, lane: Lane | None) -> bool:
        return self._queue.has_claimable(lane)

    async def crowded(self, tenants: Sequence[str]) -> tuple[int, list[ReadyWork]]:
        order = self._queue._order
        return order.total_weight, [order.work_of(tenant) for tenant in tenants]

    def _first(self, lane: Lane | None, passing_over: Set[str]) -> Task | None:
        order = self._queue._order
        with order.serving(lane, passing_over=passing_over):
            return order.first()


def _lost(lease: Lease, end: Callable[[Lease], None]) -> Lease | None:
    try:
        end(lease)
    except LeaseLost:
        return lease
    return None
