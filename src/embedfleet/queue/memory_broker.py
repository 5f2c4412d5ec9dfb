"""The broker of one process. It is the reference implementation of the port: tests compare others with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, groupby
from uuid import uuid4

from loguru import logger

from embedfleet.clock import Clock, SteadyClock
from embedfleet.errors import BrokerUnavailable, LeaseLost
from embedfleet.queue.arguments import require_at_least_one, require_not_negative, require_positive
from embedfleet.queue.broker import (
    MAX_CLAIM_TASKS,
    DeadTask,
    Depth,
    Lane,
    Lease,
    QueuedTask,
    Task,
    TenantShare,
)
from embedfleet.queue.mailboxes import Mailboxes
from embedfleet.queue.stage_queue import StageQueue
from embedfleet.queue_schemas import Stage

_LANES = (None, *Lane)


class MemoryBroker:
    """Queues in this process's memory; see `Broker` for what each method promises.

    It belongs to one event loop. A method is atomic because it never awaits during a change. The broker holds
    unfinished and dead tasks, and only counts finished ones. All of them are lost with the process.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        interactive_burst: int = 8,
        deaths: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """`deaths`: how often an earlier process died with a task in hand, by (stage, task id).

        These count as deliveries, because the queues of that process lost their own count with it. Without a
        `clock`, leases and pauses last as long as they should, even if the machine's clock is set.
        """
        require_at_least_one(interactive_burst=interactive_burst)
        self._clock = clock or SteadyClock()
        self._closed = False
        self._epoch = uuid4().hex
        self._mark: str | None = None
        self._shares: dict[str, TenantShare] = {}
        fences = count(1)
        self._queues = {
            stage: StageQueue(
                stage,
                interactive_burst=interactive_burst,
                shares=self._shares,
                fences=fences,
                deaths=deaths or {},
            )
            for stage in Stage
        }
        # An event is set exactly while a claim in its stage, of its lane or of both, would find a task.
        # `close` sets all of them.
        self._claimable = {(stage, lane): asyncio.Event() for stage in Stage for lane in _LANES}
        self._mailboxes = Mailboxes(self._clock)
        self._mailbox = uuid4().hex

    @property
    def mailbox(self) -> str:
        return self._mailbox

    @property
    def shards(self) -> int:
        return 1

    async def set_shares(self, shares: Mapping[str, TenantShare]) -> None:
        self._require_open()
        self._shares.update(shares)
        for stage in Stage:
            with self._changing(stage) as queue:
                for tenant in shares:
                    queue.share_changed(tenant)

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        with self._changing(stage) as queue:
            return queue.enqueue(tasks)

    async def claim(
        self,
        stage: Stage,
        *,
        worker: str,
        max_tasks: int,
        max_cost: int,
        lease_seconds: float,
        passing_over: Collection[str] = (),
        lane: Lane | None = None,
    ) -> list[Lease]:
        require_at_least_one(max_tasks=max_tasks, max_cost=max_cost)
        require_positive(lease_seconds=lease_seconds)
        with self._changing(stage) as queue:
            return queue.claim(
                self._clock.now(),
                worker=worker,
                max_tasks=min(max_tasks, MAX_CLAIM_TASKS),
                max_cost=max_cost,
                lease_seconds=lease_seconds,
                passing_over=passing_over,
                lane=lane,
            )

    async def renew(self, leases: Iterable[Lease], *, lease_seconds: float) -> list[Lease]:
        self._require_open()
        require_positive(lease_seconds=lease_seconds)
        now = self._clock.now()
        renewed = (
            self._queues[lease.stage].renew(lease, now, lease_seconds=lease_seconds) for lease in leases
        )
        return [lease for lease in renewed if lease is not None]

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        return self._end_each(leases, StageQueue.ack)

    async def retry_later(
        self, lease: Lease, *, delay_seconds: float, reason: str, counted: bool = True
    ) -> None:
        require_not_negative(delay_seconds=delay_seconds)
        with self._changing(lease.stage) as queue:
            queue.retry_later(
                lease, self._clock.now(), delay_seconds=delay_seconds, reason=reason, counted=counted
            )
        logger.bind(
            stage=lease.stage, tenant=lease.task.tenant, job_id=lease.task.job_id, lease=lease.fence
        ).debug(
            "attempt {} of {} failed, again in {} s: {}", lease.attempt, lease.task.id, delay_seconds, reason
        )

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease]:
        return self._end_each(leases, StageQueue.hand_back)

    async def dead_letter(self, lease: Lease, *, reason: str) -> None:
        with self._changing(lease.stage) as queue:
            queue.dead_letter(lease, self._clock.now(), reason=reason)

    async def dead(self, stage: Stage, *, limit: int = 100) -> list[DeadTask]:
        self._require_open()
        require_at_least_one(limit=limit)
        return self._queues[stage].dead(limit)

    async def requeue_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        with self._changing(stage) as queue:
            return queue.requeue_dead(task_ids)

    async def drop_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        with self._changing(stage) as queue:
            return queue.drop_dead(task_ids)

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        require_at_least_one(limit=limit)
        with self._changing(stage) as queue:
            return queue.reap_expired(self._clock.now(), limit=limit)

    async def promote_due(self, stage: Stage, *, limit: int = 1000) -> int:
        require_at_least_one(limit=limit)
        with self._changing(stage) as queue:
            return queue.promote_due(self._clock.now(), limit=limit)

    async def cancel_job(self, job_id: str) -> int:
        dropped = 0
        for stage in Stage:
            with self._changing(stage) as queue:
                dropped += queue.cancel_job(job_id)
        return dropped

    async def known_jobs(self, job_ids: Collection[str]) -> set[str]:
        self._require_open()
        return {job for job in job_ids if any(queue.knows_job(job) for queue in self._queues.values())}

    async def tasks_of(self, stage: Stage, job_id: str, *, limit: int = 100) -> list[QueuedTask]:
        self._require_open()
        require_at_least_one(limit=limit)
        return self._queues[stage].tasks_of(job_id, self._clock.now(), limit=min(limit, MAX_CLAIM_TASKS))

    async def depth(self, stage: Stage) -> Depth:
        self._require_open()
        return self._queues[stage].depth()

    async def check_writes(self, stage: Stage) -> None:
        self._require_open()

    async def crowded(
        self, stage: Stage, tenants: Collection[str], *, max_tasks: int, max_cost: int
    ) -> set[str]:
        self._require_open()
        require_at_least_one(max_tasks=max_tasks, max_cost=max_cost)
        return self._queues[stage].crowded(tenants, max_tasks=max_tasks, max_cost=max_cost)

    async def epoch(self) -> str:
        self._require_open()
        return self._epoch

    async def keep_shards(self) -> None:
        self._require_open()  # one process has one shard of each stage

    async def mark(self) -> str | None:
        self._require_open()
        return self._mark

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        self._require_open()
        if self._mark is None or self._mark == replacing:
            self._mark = mark
        return self._mark

    async def answer(
        self, stage: Stage, mailbox: str, answers: Sequence[bytes], *, keep_seconds: float
    ) -> None:
        self._require_open()
        require_positive(keep_seconds=keep_seconds)
        self._mailboxes.put((stage, mailbox), answers, keep_seconds=keep_seconds)

    async def take_answers(self, stage: Stage, *, timeout_seconds: float) -> list[bytes]:
        self._require_open()
        answers = await self._mailboxes.take((stage, self.mailbox), timeout_seconds=timeout_seconds)
        self._require_open()
        return answers

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float, lane: Lane | None = None) -> bool:
        self._require_open()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._claimable[stage, lane].wait()
        except TimeoutError:
            return False
        # `close` sets the event as well, so that no worker waits on for a broker that is gone.
        self._require_open()
        return True

    async def close(self) -> None:
        self._closed = True
        self._mailboxes.close()
        for claimable in self._claimable.values():
            claimable.set()

    def _end_each(self, leases: Sequence[Lease], end: Callable[[StageQueue, Lease], None]) -> list[Lease]:
        """End the leases, and return those that are lost."""
        self._require_open()
        lost: list[Lease] = []
        for stage, of_stage in groupby(leases, key=lambda lease: lease.stage):
            with self._changing(stage) as queue:
                for lease in of_stage:
                    try:
                        end(queue, lease)
                    except LeaseLost:
                        lost.append(lease)
        return lost

    @contextmanager
    def _changing(self, stage: Stage) -> Iterator[StageQueue]:
        """Yield the stage's queue for one change, then tell waiting workers whether a task can be claimed."""
        self._require_open()
        queue = self._queues[stage]
        try:
            yield queue
        finally:  # also after a refused change: the event must say what a claim would find now
            for lane in _LANES:
                if queue.has_claimable(lane):
                    self._claimable[stage, lane].set()
                else:
                    self._claimable[stage, lane].clear()

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the broker is closed: its process is shutting down")
