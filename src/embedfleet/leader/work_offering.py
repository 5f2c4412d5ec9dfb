"""The two duties that keep the broker filled. They share one `Reconciler`, and each has its own pace."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.leader.reconciler import Reconciler
from embedfleet.leader.service import LeaderDuty
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.queue.broker import Broker


class WorkOffering(LeaderDuty):
    """Offers the jobs and the cleanups that were written to SQL since the last step."""

    name: ClassVar = "reconciler"
    works_again: ClassVar = "work is offered to the broker again"

    def __init__(self, reconciler: Reconciler, waiting: WaitingWork) -> None:
        self._reconciler = reconciler
        self._waiting = waiting

    async def step(self) -> None:
        waiting = await self._waiting.now()
        if waiting.jobs:
            while await self._reconciler.offer_jobs():
                pass
        if waiting.cleanups:
            await self._reconciler.offer_cleanups()


class LossSearch(LeaderDuty):
    """Notices if the broker lost its memory or single tasks, and puts their jobs back into the outbox.

    It also keeps the number of shards, as a new shard must be known before it can be lost.
    """

    name: ClassVar = "search for lost tasks"
    works_again: ClassVar = "lost tasks are looked for again"

    def __init__(self, reconciler: Reconciler, broker: Broker) -> None:
        self._reconciler = reconciler
        self._broker = broker

    async def step(self) -> None:
        await self._reconciler.notice_lost_broker()
        # After it: then new shards have their epochs in SQL and their weights before they get a task.
        await self._broker.keep_shards()
        await self._reconciler.find_lost()
