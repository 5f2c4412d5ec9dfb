"""The broker of a fleet. It implements the port on Redis, for any number of processes and hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Self
from uuid import uuid4

from loguru import logger

from embedfleet.clock import Clock
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
from embedfleet.queue.fair_queue import stride
from embedfleet.queue.keys import answers_key, stage_key
from embedfleet.queue.redis_connection import RedisConnection
from embedfleet.queue.redis_doorbell import Doorbell
from embedfleet.queue.redis_parts import MOST_ITEMS, parts, parts_by_payload, until_fewer
from embedfleet.queue.redis_scripts import Holder, StageScripts
from embedfleet.queue_schemas import Stage
from embedfleet.settings import RedisSettings

# The longest delay until a worker learns of work if the notification is lost.
_LOOK_AGAIN_SECONDS = 1.0
# Dead tasks come with their payloads, which may be large, so few are read in one call.
_DEAD_AT_ONCE = 100
_DEFAULT_SHARE = TenantShare()
# The mark of the system is kept by one stage, as the keys of a script are all of one stage.
_MARKED_STAGE = Stage.CHUNKING
# Lua calculates in doubles, which hold every integer up to this one.
_LARGEST_EXACT = 2**53


class RedisBroker:
    """Queues in Redis; see `Broker` for what each method promises. Make one with `open`.

    It belongs to one event loop.

    All processes with the same server and key prefix see the same queues. A method runs one script on one
    stage, with three exceptions: `set_shares`, `cancel_job` and `known_jobs` run one on each stage after the
    other, so do `renew`, `ack` and `hand_back` on each stage of their leases, and a call with more than 1,000
    items is made in parts. Each part is atomic, and to repeat the whole call is harmless.

    When a connection breaks, an answer may be lost although the script ran. A call that can be repeated
    without harm (enqueue, renew, set_shares and all that only read) is repeated once. The others raise
    BrokerUnavailable, and then

    * a claim may have made leases that no worker holds: they expire;
    * an ack, retry, hand-back or dead-letter may have been done. To repeat it is safe: the lease is lost if
      it was done, and is ended if not. To drop the task is safe too: its effects are durable, and the worker
      that gets it again after the lease finds it done.

    Times are by the server's clock unless a clock is given.
    """

    def __init__(
        self,
        connection: RedisConnection,
        *,
        key_prefix: str,
        clock: Clock | None = None,
        interactive_burst: int = 8,
        look_again_seconds: float = _LOOK_AGAIN_SECONDS,
    ) -> None:
        """`look_again_seconds` is the longest delay of a waiting worker after a lost notification."""
        require_at_least_one(interactive_burst=interactive_burst)
        self._connection = connection
        self._interactive_burst = interactive_burst
        self._look_again_seconds = look_again_seconds
        self._closed = False
        self._stages = {
            stage: StageScripts(connection, key_prefix=key_prefix, stage=stage, clock=clock)
            for stage in Stage
        }
        self._mailbox = uuid4().hex
        self._bells_of_work = {stage: stage_key(key_prefix, stage, "meta") for stage in Stage}
        self._bells_of_answers = {stage: answers_key(key_prefix, stage, self._mailbox) for stage in Stage}
        channels = [*self._bells_of_work.values(), *self._bells_of_answers.values()]
        self._doorbell = Doorbell(connection.listen, channels)

    @classmethod
    async def open(
        cls,
        settings: RedisSettings,
        *,
        clock: Clock | None = None,
        interactive_burst: int = 8,
        look_again_seconds: float = _LOOK_AGAIN_SECONDS,
    ) -> Self:
        """Connect. Raises ConfigError for an unusable server or setting, and BrokerUnavailable."""
        connection = await RedisConnection.open(settings)
        return cls(
            connection,
            key_prefix=settings.key_prefix,
            clock=clock,
            interactive_burst=interactive_burst,
            look_again_seconds=look_again_seconds,
        )

    @property
    def mailbox(self) -> str:
        return self._mailbox

    async def set_shares(self, shares: Mapping[str, TenantShare]) -> None:
        self._require_open()
        prices = [
            (tenant, None if share == _DEFAULT_SHARE else stride(share.weight))
            for tenant, share in shares.items()
        ]
        for stage in Stage:
            for part in parts(prices):
                await self._scripts(stage).set_shares(part)

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        scripts = self._scripts(stage)
        return sum([await scripts.enqueue(part) for part in parts_by_payload(tasks)])

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
        return await self._scripts(stage).claim(
            self._interactive_burst,
            worker,
            min(max_tasks, MAX_CLAIM_TASKS),
            min(max_cost, _LARGEST_EXACT),
            lease_seconds,
            lane,
            frozenset(passing_over),
        )

    async def renew(self, leases: Iterable[Lease], *, lease_seconds: float) -> list[Lease]:
        self._require_open()
        require_positive(lease_seconds=lease_seconds)
        renewed: list[Lease] = []
        for stage, of_stage in groupby(leases, key=lambda lease: lease.stage):
            for part in parts(of_stage):
                renewed += await self._scripts(stage).renew(lease_seconds, part)
        return renewed

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        return await self._end_each(leases, StageScripts.ack)

    async def retry_later(
        self, lease: Lease, *, delay_seconds: float, reason: str, counted: bool = True
    ) -> None:
        require_not_negative(delay_seconds=delay_seconds)
        task = lease.task
        _require_held(
            lease,
            await self._scripts(lease.stage).retry_later(
                task.id, lease.fence, delay_seconds, counted, reason
            ),
        )
        logger.bind(stage=lease.stage, tenant=task.tenant, job_id=task.job_id, lease=lease.fence).debug(
            "attempt {} of {} failed, again in {} s: {}", lease.attempt, task.id, delay_seconds, reason
        )

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease]:
        return await self._end_each(leases, StageScripts.hand_back)

    async def dead_letter(self, lease: Lease, *, reason: str) -> None:
        _require_held(lease, await self._scripts(lease.stage).dead_letter(lease.task.id, lease.fence, reason))

    async def dead(self, stage: Stage, *, limit: int = 100) -> list[DeadTask]:
        scripts = self._scripts(stage)
        require_at_least_one(limit=limit)
        found: list[DeadTask] = []
        after = 0
        while len(found) < limit:
            part, after = await scripts.dead(after, min(limit - len(found), _DEAD_AT_ONCE))
            if not part:
                break
            found += part
        return found

    async def requeue_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        scripts = self._scripts(stage)
        return sum([await scripts.requeue_dead(part) for part in parts(task_ids)])

    async def drop_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        scripts = self._scripts(stage)
        return sum([await scripts.drop_dead(part) for part in parts(task_ids)])

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        require_at_least_one(limit=limit)
        return await until_fewer(self._scripts(stage).reap_expired, limit)

    async def promote_due(self, stage: Stage, *, limit: int = 1000) -> int:
        require_at_least_one(limit=limit)
        return await until_fewer(self._scripts(stage).promote_due, limit)

    async def cancel_job(self, job_id: str) -> int:
        return sum([await self._cancel_in(stage, job_id) for stage in Stage])

    async def known_jobs(self, job_ids: Collection[str]) -> set[str]:
        self._require_open()
        known: set[str] = set()
        for part in parts(job_ids):
            unknown = part
            # Look in the order of the pipeline, as the contract requires. In the reverse order, a job that
            # moves on during the look would be missed.
            for stage in Stage:
                found = await self._scripts(stage).known_jobs(unknown) if unknown else set()
                known |= found
                unknown = [job for job in unknown if job not in found]
        return known

    async def tasks_of(self, stage: Stage, job_id: str, *, limit: int = 100) -> list[QueuedTask]:
        scripts = self._scripts(stage)
        require_at_least_one(limit=limit)
        return await scripts.tasks_of(job_id, min(limit, MOST_ITEMS))

    async def depth(self, stage: Stage) -> Depth:
        return await self._scripts(stage).depth()

    async def check_writes(self, stage: Stage) -> None:
        await self._scripts(stage).check_writes()

    async def crowded(
        self, stage: Stage, tenants: Collection[str], *, max_tasks: int, max_cost: int
    ) -> set[str]:
        scripts = self._scripts(stage)
        require_at_least_one(max_tasks=max_tasks, max_cost=max_cost)
        crowded: set[str] = set()
        for part in parts(tenants):
            total, found = await scripts.crowded(part)
            for tenant, work in zip(part, found, strict=True):
                if work.fills_its_share(total, max_tasks=max_tasks, max_cost=max_cost):
                    crowded.add(tenant)
        return crowded

    async def epoch(self) -> str:
        names = [await self._scripts(stage).epoch(uuid4().hex) for stage in Stage]
        return ",".join(names)

    async def mark(self) -> str | None:
        return await self._scripts(_MARKED_STAGE).mark("", "")

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        held = await self._scripts(_MARKED_STAGE).mark(mark, replacing or "")
        assert held is not None, "the script sets a mark where there is none"
        return held

    async def answer(
        self, stage: Stage, mailbox: str, answers: Sequence[bytes], *, keep_seconds: float
    ) -> None:
        scripts = self._scripts(stage)
        require_positive(keep_seconds=keep_seconds)
        for part in parts(answers):
            await scripts.answer(mailbox, keep_seconds, part)

    async def take_answers(self, stage: Stage, *, timeout_seconds: float) -> list[bytes]:
        """Take as the port says. A wait looks first, and again after each notification, as below."""
        scripts = self._scripts(stage)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            ring = self._doorbell.next_ring(self._bells_of_answers[stage])  # before the look, as below
            if answers := await scripts.take_answers(self._mailbox, MOST_ITEMS):
                return answers
            patience = deadline - loop.time()
            if patience <= 0:
                return []
            await asyncio.wait([ring], timeout=min(patience, self._look_again_seconds))
            self._require_open()

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float, lane: Lane | None = None) -> bool:
        """Wait as the port says. A wait looks first, and again after each notification.

        The server sends a notification when a lane of a stage without a claimable task gets one. So a worker
        learns of work as soon as the notification arrives, or within `look_again_seconds` if it was lost.
        """
        scripts = self._scripts(stage)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            # Take the next ring before the look: a ring between the look and the wait would be missed.
            ring = self._doorbell.next_ring(self._bells_of_work[stage])
            if await scripts.claimable(lane):
                return True
            patience = deadline - loop.time()
            if patience <= 0:
                return False
            await asyncio.wait([ring], timeout=min(patience, self._look_again_seconds))
            self._require_open()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._doorbell.close()
            await self._connection.close()

    async def _end_each(
        self,
        leases: Sequence[Lease],
        end: Callable[[StageScripts, Sequence[Lease]], Awaitable[list[Lease]]],
    ) -> list[Lease]:
        """End the leases, and return those that are lost. One call for each stage and 1,000 leases."""
        self._require_open()
        lost: list[Lease] = []
        for stage, of_stage in groupby(leases, key=lambda lease: lease.stage):
            for part in parts(of_stage):
                lost += await end(self._scripts(stage), part)
        return lost

    async def _cancel_in(self, stage: Stage, job_id: str) -> int:
        scripts = self._scripts(stage)
        dropped, after, until = await scripts.cancel_job(job_id, "", None, MOST_ITEMS)
        while after:
            more, after, until = await scripts.cancel_job(job_id, after, until, MOST_ITEMS)
            dropped += more
        return dropped

    def _scripts(self, stage: Stage) -> StageScripts:
        self._require_open()
        return self._stages[stage]

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the broker is closed: its process is shutting down")


def _require_held(lease: Lease, holder: Holder) -> None:
    if holder.fence == lease.fence:
        return
    if holder.fence:
        who = f"worker {holder.worker!r} holds fence {holder.fence}"
    else:
        who = "no worker holds the task now"
    raise LeaseLost(
        f"{lease.stage} task {lease.task.id!r}: fence {lease.fence} is stale, {who}; drop the result"
    )
