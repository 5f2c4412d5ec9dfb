"""The broker of a fleet. It implements the port on Redis, for any number of processes and hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from random import randrange
from time import time
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
from embedfleet.queue.redis_parts import MOST_ITEMS, parts
from embedfleet.queue.redis_scripts import Holder, StageScripts
from embedfleet.queue.shards import KnownLayout, Layout
from embedfleet.queue.stage_shards import StageShards
from embedfleet.queue_schemas import Stage
from embedfleet.settings import RedisSettings

# The longest delay until a worker learns of work if the notification is lost, and of new shards.
_LOOK_AGAIN_SECONDS = 1.0
_DEFAULT_SHARE = TenantShare()
# The mark of the system is kept by one stage, as the keys of a script are all of one stage.
_MARKED_STAGE = Stage.CHUNKING
# Lua calculates in doubles, which hold every integer up to this one.
_LARGEST_EXACT = 2**53


class RedisBroker:
    """Queues in Redis; see `Broker` for what each method promises. Make one with `open`.

    It belongs to one event loop.

    All processes with the same server and key prefix see the same queues. A method runs one script on one
    stage, with four exceptions: `set_shares`, `cancel_job` and `known_jobs` run one on each stage after the
    other, so do `renew`, `ack` and `hand_back` on each stage of their leases, a call with more than 1,000
    items is made in parts, and a call that concerns several shards is made on each. Each part is atomic, and
    to repeat the whole call is harmless.

    A stage may have several shards, so that its load is spread over the nodes of a cluster (`shards.py`).
    What the port says of the order of service holds then within each shard, and claims take the shards in
    turn.

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
        shards: int = 1,
    ) -> None:
        """`look_again_seconds` is the longest delay of a waiting worker after a lost notification.

        `shards` is the number towards which `keep_shards` brings every stage.
        """
        require_at_least_one(interactive_burst=interactive_burst, shards=shards)
        self._connection = connection
        self._interactive_burst = interactive_burst
        self._look_again_seconds = look_again_seconds
        self._closed = False
        self._layout = KnownLayout()
        self._shards_wanted = shards
        self._look_at_layout_at = float("-inf")
        self._stages = {
            stage: StageShards(partial(StageScripts, connection, key_prefix, stage, clock), self._layout)
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
            shards=settings.shards,
        )

    @property
    def mailbox(self) -> str:
        return self._mailbox

    @property
    def shards(self) -> int:
        return self._layout.now.in_use

    async def set_shares(self, shares: Mapping[str, TenantShare]) -> None:
        self._require_open()
        prices = [
            (tenant, None if share == _DEFAULT_SHARE else stride(share.weight))
            for tenant, share in shares.items()
        ]
        for stage in Stage:
            for part in parts(prices):
                await self._stages[stage].set_shares(part, shards=self._widest())

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        return await (await self._queue(stage)).enqueue(tasks)

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
        queue = await self._queue(stage)
        return await queue.claim(
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
        return await self._on_each(leases, lambda scripts, part: scripts.renew(lease_seconds, part))

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        self._require_open()
        return await self._on_each(leases, StageScripts.ack)

    async def retry_later(
        self, lease: Lease, *, delay_seconds: float, reason: str, counted: bool = True
    ) -> None:
        require_not_negative(delay_seconds=delay_seconds)
        task = lease.task
        self._require_open()
        holder = await self._stages[lease.stage].retry_later(lease, delay_seconds, counted, reason)
        _require_held(lease, holder)
        logger.bind(stage=lease.stage, tenant=task.tenant, job_id=task.job_id, lease=lease.fence).debug(
            "attempt {} of {} failed, again in {} s: {}", lease.attempt, task.id, delay_seconds, reason
        )

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease]:
        self._require_open()
        return await self._on_each(leases, StageScripts.hand_back)

    async def dead_letter(self, lease: Lease, *, reason: str) -> None:
        self._require_open()
        _require_held(lease, await self._stages[lease.stage].dead_letter(lease, reason))

    async def dead(self, stage: Stage, *, limit: int = 100) -> list[DeadTask]:
        require_at_least_one(limit=limit)
        return await (await self._queue(stage)).dead(limit)

    async def requeue_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        return await (await self._queue(stage)).requeue_dead(task_ids)

    async def drop_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        return await (await self._queue(stage)).drop_dead(task_ids)

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        require_at_least_one(limit=limit)
        return await (await self._queue(stage)).reap_expired(limit)

    async def promote_due(self, stage: Stage, *, limit: int = 1000) -> int:
        require_at_least_one(limit=limit)
        return await (await self._queue(stage)).promote_due(limit)

    async def cancel_job(self, job_id: str) -> int:
        await self._look_at_layout()
        return sum([await self._stages[stage].cancel_job(job_id) for stage in Stage])

    async def known_jobs(self, job_ids: Collection[str]) -> set[str]:
        self._require_open()
        known: set[str] = set()
        for part in parts(job_ids):
            unknown = part
            # Look in the order of the pipeline, as the contract requires. In the reverse order, a job that
            # moves on during the look would be missed. The layout is asked for before each look, as a job may
            # move on into a shard that is new.
            for stage in Stage:
                if not unknown:
                    break
                await self._look_at_layout()
                found = await self._stages[stage].known_jobs(unknown)
                known |= found
                unknown = [job for job in unknown if job not in found]
        return known

    async def tasks_of(self, stage: Stage, job_id: str, *, limit: int = 100) -> list[QueuedTask]:
        require_at_least_one(limit=limit)
        return await (await self._queue(stage)).tasks_of(job_id, min(limit, MOST_ITEMS))

    async def depth(self, stage: Stage) -> Depth:
        return await (await self._queue(stage)).depth()

    async def check_writes(self, stage: Stage) -> None:
        await (await self._queue(stage)).check_writes()

    async def crowded(
        self, stage: Stage, tenants: Collection[str], *, max_tasks: int, max_cost: int
    ) -> set[str]:
        require_at_least_one(max_tasks=max_tasks, max_cost=max_cost)
        queue = await self._queue(stage)
        crowded: set[str] = set()
        for part in parts(tenants):
            total, found = await queue.crowded(part)
            for tenant, work in zip(part, found, strict=True):
                if work.fills_its_share(total, max_tasks=max_tasks, max_cost=max_cost):
                    crowded.add(tenant)
        return crowded

    async def epoch(self) -> str:
        await self._look_at_layout()
        names = [name for stage in Stage for name in await self._stages[stage].epochs(shards=self._widest())]
        return ",".join(names)

    async def keep_shards(self) -> None:
        layout = await self._look_at_layout()
        if not layout.version:
            layout = await self._look_in_all_stages()
        if layout.shards != self._shards_wanted:
            changed = layout.changed(self._shards_wanted, version=_new_version(layout))
            if not await self._replace(layout, changed):
                return  # another leader changed it; the next call begins with what that one made
            layout = changed
            logger.info("each stage is divided into {} shards from now on", changed.shards)
        if not layout.before:
            return
        strays = sum([await self._stages[stage].hear(layout.encode()) for stage in Stage])
        if strays == 0 and await self._replace(layout, layout.settled()):
            logger.info("no task is left where an earlier number of shards had put it")

    async def _replace(self, layout: Layout, changed: Layout) -> bool:
        """Put `changed` in place of `layout`. Return False if that was not the layout any more."""
        shard = self._first_scripts(_MARKED_STAGE)
        held, _ = await shard.layout(changed.encode(), instead_of=layout.encode())
        self._layout.hear(held)
        return held == changed.encode()

    async def _look_at_layout(self) -> Layout:
        """Return the layout that counts. It is in the shard that has the mark.

        If that shard lost its memory, it is told the layout that this process knows.
        """
        self._require_open()
        self._look_at_layout_at = asyncio.get_running_loop().time() + _LOOK_AGAIN_SECONDS
        held, _ = await self._first_scripts(_MARKED_STAGE).layout(self._layout.now.encode())
        self._layout.hear(held)
        return Layout.decode(held)

    async def _look_in_all_stages(self) -> Layout:
        """Restore the layout from the other stages, if the shard that has it lost its memory.

        A leader that has just started remembers none. It must not begin a new one while tasks may lie in
        shards that the new one does not have.
        """
        for stage in Stage:
            held, _ = await self._first_scripts(stage).layout("")
            self._layout.hear(held)
        return await self._look_at_layout()

    def _widest(self) -> int:
        """Return how many shards there ever were, or will be when the wanted number is reached."""
        return max(self._layout.now.widest, self._shards_wanted)

    async def mark(self) -> str | None:
        return await self._first_scripts(_MARKED_STAGE).mark("", "")

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        held = await self._first_scripts(_MARKED_STAGE).mark(mark, replacing or "")
        assert held is not None, "the script sets a mark where there is none"
        return held

    async def answer(
        self, stage: Stage, mailbox: str, answers: Sequence[bytes], *, keep_seconds: float
    ) -> None:
        scripts = self._first_scripts(stage)
        require_positive(keep_seconds=keep_seconds)
        for part in parts(answers):
            await scripts.answer(mailbox, keep_seconds, part)

    async def take_answers(self, stage: Stage, *, timeout_seconds: float) -> list[bytes]:
        """Take as the port says. A wait looks first, and again after each notification, as below."""
        scripts = self._first_scripts(stage)
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
        self._require_open()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            # Take the next ring before the look: a ring between the look and the wait would be missed.
            ring = self._doorbell.next_ring(self._bells_of_work[stage])
            if await (await self._queue(stage)).claimable(lane):
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

    async def _on_each(
        self,
        leases: Iterable[Lease],
        act: Callable[[StageScripts, Sequence[Lease]], Awaitable[Sequence[Lease | None]]],
    ) -> list[Lease]:
        """Do something with leases, on each stage of them. Return the leases that it returns."""
        found: list[Lease] = []
        for stage, of_stage in groupby(leases, key=lambda lease: lease.stage):
            found += await self._stages[stage].each(list(of_stage), act)
        return found

    async def _queue(self, stage: Stage) -> StageShards:
        """Return the queues of a stage, by a layout that is at most a second old."""
        self._require_open()
        if asyncio.get_running_loop().time() >= self._look_at_layout_at:
            try:
                await self._look_at_layout()
            except BrokerUnavailable:
                # Its server is away, but that of this stage may be there. A shard that has heard of a newer
                # layout refuses offers by this one and says so; the others place tasks by it as before.
                self._require_open()
        return self._stages[stage]

    def _first_scripts(self, stage: Stage) -> StageScripts:
        """Return the operations on the first shard, which has the mailboxes and the mark."""
        self._require_open()
        return self._stages[stage].of(0)

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the broker is closed: its process is shutting down")


def _new_version(before: Layout) -> int:
    """Return the version of a layout that follows this one, or one that was lost.

    It follows the clock: also after a loss of all keys, a process that knows an older layout is refused. The
    part by chance makes two layouts different that follow the same one, of which a failover lost the first.
    """
    return max(int(time() * 1e6), before.version) + randrange(1, 1_000_000)


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
