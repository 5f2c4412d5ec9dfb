"""The base class of all loops: it claims tasks, keeps their leases, and settles each task.

Delivery is at least once, so every step must be safe to repeat. The order is: do the work, queue the tasks of
the next stage, commit SQL, and ack last. A crash at any point then leads to a redelivery, never to a loss.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from time import perf_counter
from typing import ClassVar, TypeVar

from loguru import logger

from embedfleet.errors import (
    BrokerUnavailable,
    EmbedfleetError,
    LaterMessage,
    StorageFull,
    Transient,
    UndecodableMessage,
)
from embedfleet.queue.broker import Lane, Lease
from embedfleet.queue_schemas import Message, Stage
from embedfleet.retry import BackOff
from embedfleet.settings import DEFAULT_BATCH_TOKENS, PoolSettings
from embedfleet.trouble import Trouble
from embedfleet.waiting import first_of, wait_briefly
from embedfleet.workers.lease_renewal import leases_renewed
from embedfleet.workers.services import Services, SharedClaiming
from embedfleet.workers.settling import Settling, WorkerDied

# An idle loop sleeps at most this long before it looks at its stop signal and the queue again.
_IDLE_SECONDS = 1.0
# The pauses while the broker or the database is away. The first is short, because a restart takes little
# time. The longest is two seconds, so that work goes on soon after the service is back.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
# The pauses between two looks at the tenants that a loop passes over. The longest is how late it may see the
# first document of another tenant. This document would wait as long for the model: ten thousand
# others have a task there before it.
_LOOK_PAUSE_SECONDS = 0.02
_LOOK_PAUSE_SECONDS_A_TENANT = 0.0005
_LONGEST_LOOK_PAUSE_SECONDS = 5.0

_NOT_ALONE = (
    "it is tried alone, as its worker died or failed before, and other work in the process takes long"
)

MessageT = TypeVar("MessageT", bound=Message)

Failures = Mapping[str, Exception]
"""The exception of each failed task, by task id. A task that is not in it is done."""

Done = Callable[[Sequence[Lease]], Awaitable[None]]
"""Settles some tasks of the claim before the others. Call it when the effects of these tasks are durable."""


def pause_before_next_look(tenants: int, shards: int) -> float:
    """Return how many seconds to pass over this many tenants before they are looked at again.

    A look costs Redis some 13 microseconds a tenant and shard (`benchmarks/broker_costs.py`), so loops must
    not look at thousands of tenants fifty times a second, or at each claim. Each of these tenants fills its
    share of the next stage's room. So the stage does not run dry in the pause unless it serves more than the
    room of a shard, and more than 2,000 tasks, in a second.
    """
    by_cost = _LOOK_PAUSE_SECONDS_A_TENANT * tenants * shards
    return min(_LONGEST_LOOK_PAUSE_SECONDS, max(_LOOK_PAUSE_SECONDS, by_cost))


class StageLoop(ABC):
    """One loop of a worker: it claims tasks of one stage and does them.

    Run `run` as an asyncio task. A subclass defines the work of its stage.
    """

    stage: ClassVar[Stage]
    lane: ClassVar[Lane | None] = None
    """The only lane that the loop claims from; None: both."""

    def __init__(
        self,
        name: str,
        services: Services,
        *,
        rng: random.Random | None = None,
        pool: PoolSettings | None = None,
    ) -> None:
        """`pool`: settings to work by in place of those of the stage's pool."""
        self.name = name
        self._broker = services.broker
        self._database = services.database
        self._metrics = services.metrics
        self._clock = services.clock
        self._exclusive_slot = services.exclusive_slot
        self._journal = services.journal
        self._pool = pool or services.pools.of(self.stage)
        self._rng = rng or random.Random()
        self._log = logger.bind(stage=self.stage.value, worker=name)
        self._trouble = Trouble(log=self._log, over="what was put off goes on")
        self.claiming = SharedClaiming(Trouble(log=self._log, over="the broker answers again"))
        self._settling = Settling(
            self.stage,
            self,
            services.broker,
            services.metrics,
            lease_seconds=self._pool.lease_seconds,
            note_trouble=self._note_trouble,
            rng=self._rng,
            log=self._log,
        )
        self._stop = asyncio.Event()
        self._waited_seconds = 0.0

    @abstractmethod
    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        """Do the tasks, and return the failed ones. On return the effects of all other tasks are durable.

        Call `done` to settle some tasks before the others. An exception fails every task not settled by then.
        """

    @abstractmethod
    async def give_up(self, lease: Lease, reason: str) -> None:
        """Record in SQL that the task will never be done. This must work when the payload is unreadable."""

    async def divide(self, lease: Lease, reason: str) -> bool:
        """Offer the task again in smaller parts, so that only the part at fault is given up.

        Return False if the task cannot be divided. Unless a subclass overrides this, no task can.
        """
        return False

    def max_attempts(self, lease: Lease) -> int:
        """Return how many deliveries of the task may fail before it is divided or given up."""
        return self._pool.max_attempts

    def must_run_alone(self, lease: Lease) -> bool:
        """Whether nothing else may run beside the task, because its worker died or failed with it before."""
        return 1 < lease.attempt <= self.max_attempts(lease)

    def tasks_per_claim(self) -> int:
        """Return the most tasks that one claim takes."""
        return self._pool.batch_tasks

    def tokens_per_claim(self) -> int:
        """Return the most tokens that one claim takes."""
        return self._pool.batch_tokens or DEFAULT_BATCH_TOKENS

    async def has_room(self) -> bool:
        """Whether the next stage can take more tasks (back-pressure). True unless a subclass overrides it."""
        return True

    async def passing_over(self) -> Collection[str]:
        """Return the tenants that the next claim leaves out (back-pressure). None unless overridden."""
        return ()

    @property
    def trouble(self) -> EmbedfleetError | None:
        """The failure because of which work is put off now; None if no work is."""
        return self._trouble.failure or self.claiming.broker_trouble.failure

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Tasks that are claimed by then are finished or handed back.

        If it is cancelled, it hands back the tasks it holds and ends at once. It waits for a broker or a
        database that is away, however long that takes.
        """
        self._stop = stop
        back_off = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while not stop.is_set():
            try:
                await self._claim_and_work(stop)
                back_off.reset()
            except Transient as exc:
                self._note_trouble(exc)
                # Random, so that the loops of a fleet do not all ask at the same moment.
                await wait_briefly(stop, back_off.next_seconds() * self._rng.uniform(0.5, 1.0))

    async def work(self, leases: Sequence[Lease]) -> None:
        """Process claimed tasks, and settle each of them with the broker."""
        started, self._waited_seconds = perf_counter(), 0.0
        held = {lease.task.id: lease for lease in leases}

        async def settle(some: Sequence[Lease], failures: Failures) -> None:
            await self._settling.settle(some, failures, self._stop)
            # Only now, when the broker knows: a loop that is cancelled before hands back all held tasks.
            for lease in some:
                held.pop(lease.task.id, None)

        try:
            async with self._leases_renewed(leases):
                with self._journal.recorded(leases) as remove_from_journal:

                    async def done(some: Sequence[Lease]) -> None:
                        await settle(some, {})
                        remove_from_journal(*some)

                    failures = await self._process(leases, done)
                await settle(list(held.values()), failures)
        except asyncio.CancelledError:
            await self._settling.hand_back(held.values())
            raise
        self._measure(leases, failures, perf_counter() - started)

    async def wait_for_room(self, seconds: float) -> None:
        """Pause in the middle of a task for `seconds`, or until the stop signal.

        The pause is not counted as work, so it does not lower the measured rate of the pool.
        """
        started = perf_counter()
        await wait_briefly(self._stop, seconds)
        self._waited_seconds += perf_counter() - started

    async def _claim_and_work(self, stop: asyncio.Event) -> None:
        """Claim once and do the tasks of the claim, or wait a moment if no task is ready."""
        started = perf_counter()
        async with AsyncExitStack() as sharing:
            # Only the loop that has the turn waits for tasks. Otherwise all loops would wake up for one task.
            async with self.claiming.turn:
                leases = await self._next_claim(stop, sharing)
            self._metrics.idle_seconds_total.labels(self.stage.value).inc(perf_counter() - started)
            # The broker puts no second task into a claim with one that must run alone.
            if len(leases) == 1 and self.must_run_alone(leases[0]):
                await self._work_alone(leases[0])
            elif leases:
                await self.work(leases)

    async def _next_claim(self, stop: asyncio.Event, sharing: AsyncExitStack) -> list[Lease]:
        """Claim tasks. The loop shares the exclusive slot from before the claim until `sharing` is closed.

        If no task is ready, or the next stage has no room, return an empty list after a short wait.
        """
        if not await self.has_room():
            await wait_briefly(stop)
            return []
        async with AsyncExitStack() as shared:
            # Share the slot before the claim: no task may be in hand beside a task that runs alone.
            await shared.enter_async_context(self._exclusive_slot.shared())
            # Look at the stop signal again: it may have come while another loop had the slot exclusively.
            passing_over = await self.passing_over()
            leases = [] if stop.is_set() else await self._claim(passing_over)
            if leases:
                await sharing.enter_async_context(shared.pop_all())
                return leases
        if passing_over:
            # The broker may have tasks of these tenants, so it does not say when another tenant has one.
            await wait_briefly(stop, pause_before_next_look(len(passing_over), self._broker.shards))
        else:
            await self._wait_for_task(stop)
        return []

    async def _claim(self, passing_over: Collection[str]) -> list[Lease]:
        leases = await self._broker.claim(
            self.stage,
            worker=self.name,
            max_tasks=self.tasks_per_claim(),
            max_cost=self.tokens_per_claim(),
            lease_seconds=self._pool.lease_seconds,
            passing_over=passing_over,
            lane=self.lane,
        )
        self.claiming.broker_trouble.clear()
        return leases

    async def _wait_for_task(self, stop: asyncio.Event) -> None:
        """Wait until a task may be ready, `stop` is set, or `_IDLE_SECONDS` have passed."""
        ready = self._broker.wait_for_ready(self.stage, timeout_seconds=_IDLE_SECONDS, lane=self.lane)
        await first_of(ready, stop.wait())

    async def _work_alone(self, suspect: Lease) -> None:
        """Do the task while nothing else runs or is in hand in the process.

        So if the process dies, no other task is blamed for it. If the other loops take long, the task is put
        off, and they go on.
        """
        try:
            async with self._leases_renewed([suspect]), self._exclusive_slot.exclusive() as exclusive:
                if exclusive:
                    self._log.debug("tried alone", task=suspect.task.id, attempt=suspect.attempt)
                    await self.work([suspect])
                elif self._exclusive_slot.is_closed:
                    # Another loop has a suspect too, and waits until this loop no longer shares the slot.
                    await self._settling.hand_back([suspect])
                else:
                    # Not handed back: it would be claimed at once, and again, as long as the others work.
                    await self._settling.let_wait(
                        suspect, self._exclusive_slot.patience_seconds, _NOT_ALONE, self._stop
                    )
        except asyncio.CancelledError:
            await self._settling.hand_back([suspect])
            raise

    async def _process(self, leases: Sequence[Lease], done: Done) -> Failures:
        """Process the claim and return its failures. A task that was delivered too often is not tried."""
        failures: dict[str, Exception] = {
            lease.task.id: WorkerDied(f"its worker died or failed {lease.attempt - 1} times")
            for lease in leases
            if lease.attempt > self.max_attempts(lease)
        }
        allowed = [lease for lease in leases if lease.task.id not in failures]
        if allowed:
            try:
                failures.update(await self.process(allowed, done))
                if not any(isinstance(failure, Transient | StorageFull) for failure in failures.values()):
                    self._trouble.clear()
            except Exception as exc:  # noqa: BLE001 - an exception of any class settles the tasks
                failures.update({lease.task.id: exc for lease in allowed})
        return failures

    def _note_trouble(self, failure: EmbedfleetError) -> None:
        if isinstance(failure, BrokerUnavailable):
            self.claiming.broker_trouble.note(failure)
        else:
            self._trouble.note(failure)

    def _measure(self, leases: Sequence[Lease], failures: Failures, seconds: float) -> None:
        stage = self.stage.value
        self._metrics.stage_latency_seconds.labels(stage).observe(seconds)
        self._metrics.busy_seconds_total.labels(stage).inc(max(0.0, seconds - self._waited_seconds))
        costs = [lease.task.cost for lease in leases if lease.task.id not in failures]
        self._metrics.tasks_done_total.labels(stage).inc(len(costs))
        self._metrics.task_cost_tokens_total.labels(stage).inc(sum(costs))

    def _leases_renewed(self, leases: Sequence[Lease]) -> AbstractAsyncContextManager[None]:
        seconds = self._pool.lease_seconds
        return leases_renewed(self._broker, leases, lease_seconds=seconds, name=self.name, log=self._log)


def decoded(
    leases: Sequence[Lease], kind: type[MessageT]
) -> tuple[list[tuple[Lease, MessageT]], dict[str, Exception]]:
    """Return the messages of the leases that can be read, and a failure for each one that cannot."""
    messages: list[tuple[Lease, MessageT]] = []
    failures: dict[str, Exception] = {}
    for lease in leases:
        try:
            messages.append((lease, kind.decode(lease.task.payload)))
        except (UndecodableMessage, LaterMessage) as exc:
            failures[lease.task.id] = exc
    return messages, failures


async def one_by_one(leases: Sequence[Lease], work: Callable[[Lease], Awaitable[None]]) -> Failures:
    """Do the work of each lease, in order; returns what those that failed raised."""
    failures: dict[str, Exception] = {}
    for lease in leases:
        try:
            await work(lease)
        except Exception as exc:  # noqa: BLE001 - a task that fails must not fail the others
            failures[lease.task.id] = exc
    return failures
