"""What every loop of a worker does around its work: claim, keep the leases, settle each task.

Delivery is at least once and every step may be repeated harmlessly. So the order is: the work, the stage
after it, SQL, and the ack last.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Message, Stage
from embedfleet.retry import BackOff
from embedfleet.settings import DEFAULT_BATCH_TOKENS
from embedfleet.trouble import Trouble
from embedfleet.waiting import first_of, wait_briefly
from embedfleet.workers.lease_renewal import leases_renewed
from embedfleet.workers.services import Services, SharedClaiming
from embedfleet.workers.settling import Settling, WorkerDied

# An idle loop sleeps at most this long before it looks at its stop signal and the queue again.
_IDLE_SECONDS = 1.0
# The pauses while the broker or the database is away: short at first, for a restart takes little time, and
# never so long that work stands still after the service is back.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

MessageT = TypeVar("MessageT", bound=Message)

Failures = Mapping[str, Exception]
"""The exception of each failed task, by task id. Tasks without one are done."""

Done = Callable[[Lease], Awaitable[None]]
"""Settles one task of the claim before the others. Call it when the effects of the task are durable."""


class StageLoop(ABC):
    """One loop of a worker: it claims tasks of one stage and does them. `run` it as a task.

    Subclasses say what the work is.
    """

    stage: ClassVar[Stage]

    def __init__(self, name: str, services: Services, *, rng: random.Random | None = None) -> None:
        self.name = name
        self._broker = services.broker
        self._database = services.database
        self._metrics = services.metrics
        self._clock = services.clock
        self._exclusive_slot = services.exclusive_slot
        self._journal = services.journal
        self._pool = services.pools.of(self.stage)
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
        """Do the tasks. On return the effects of every task not named in the answer are durable.

        A task may be settled earlier with `done`. An exception counts for all tasks not settled by then.
        """

    @abstractmethod
    async def give_up(self, lease: Lease, reason: str) -> None:
        """Record in SQL that the task will never be done. Must not depend on the payload being readable."""

    async def divide(self, lease: Lease, reason: str) -> bool:
        """Offer the task again in smaller parts, so that only the part at fault is given up.

        False if the task cannot be divided: always, unless overridden.
        """
        return False

    def max_attempts(self, lease: Lease) -> int:
        """Deliveries of the task before it is divided or given up."""
        return self._pool.max_attempts

    def must_run_alone(self, lease: Lease) -> bool:
        """Whether the task runs with nothing else at work: its worker died or failed with it before."""
        return 1 < self.attempt_of(lease) <= self.max_attempts(lease)

    def tokens_per_claim(self) -> int:
        """The most tokens a claim takes, if the settings do not say."""
        return DEFAULT_BATCH_TOKENS

    async def has_room(self) -> bool:
        """Whether the stage after this one can take more (back-pressure). True unless overridden."""
        return True

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off, for a person to read; None if all is well."""
        return self._trouble.failure or self.claiming.broker_trouble.failure

    def attempt_of(self, lease: Lease) -> int:
        """The number of this delivery, the deaths of earlier processes with queues of their own included."""
        return lease.attempt + self._journal.deaths_of(self.stage, lease.task.id)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; tasks claimed by then are finished or handed back.

        Cancelled, it hands back what it holds and ends at once. It waits for a broker or a database that is
        away, however long that takes.
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
        """Process claimed tasks and settle each with the broker."""
        started, self._waited_seconds = perf_counter(), 0.0
        held = {lease.task.id: lease for lease in leases}

        async def settle(lease: Lease, failure: Exception | None = None) -> None:
            await self._settling.settle(lease, failure, self._stop)
            held.pop(lease.task.id, None)  # after the broker knows: a cancelled loop hands back what is held

        try:
            async with self._leases_renewed(leases):
                with self._journal.recorded(leases) as remove_from_journal:

                    async def done(lease: Lease) -> None:
                        await settle(lease)
                        remove_from_journal(lease)

                    failures = await self._process(leases, done)
                await asyncio.gather(
                    *(settle(lease, failures.get(lease.task.id)) for lease in list(held.values()))
                )
        except asyncio.CancelledError:
            await self._settling.hand_back(held.values())
            raise
        self._measure(leases, failures, perf_counter() - started)

    async def wait_for_room(self, seconds: float) -> None:
        """Pause in the middle of a task, or until the stop signal. The pause does not count as work: the rate
        of the pool is measured without it."""
        started = perf_counter()
        await wait_briefly(self._stop, seconds)
        self._waited_seconds += perf_counter() - started

    async def _claim_and_work(self, stop: asyncio.Event) -> None:
        """Claim once and do the tasks of the claim, or wait a moment if there is none."""
        started = perf_counter()
        async with AsyncExitStack() as sharing:
            async with self.claiming.turn:
                leases = await self._next_claim(stop, sharing)
            self._metrics.idle_seconds_total.labels(self.stage.value).inc(perf_counter() - started)
            suspects = [lease for lease in leases if self.must_run_alone(lease)]
            if suspects:
                await self._work_alone(suspects, [lease for lease in leases if lease not in suspects])
            elif leases:
                await self.work(leases)

    async def _next_claim(self, stop: asyncio.Event, sharing: AsyncExitStack) -> list[Lease]:
        """Claim, sharing the exclusive slot until `sharing` is closed.

        Without a task, or without room in the next stage, return nothing after a moment.
        """
        if not await self.has_room():
            await wait_briefly(stop)
            return []
        async with AsyncExitStack() as shared:
            # Share before the claim: a task must never be in hand beside one that runs alone.
            await shared.enter_async_context(self._exclusive_slot.shared())
            # The stop may have come while another loop had the slot exclusively.
            leases = [] if stop.is_set() else await self._claim()
            if leases:
                await sharing.enter_async_context(shared.pop_all())
                return leases
        await self._wait_for_task(stop)
        return []

    async def _claim(self) -> list[Lease]:
        leases = await self._broker.claim(
            self.stage,
            worker=self.name,
            max_tasks=self._pool.batch_tasks,
            max_cost=self._pool.batch_tokens or self.tokens_per_claim(),
            lease_seconds=self._pool.lease_seconds,
        )
        self.claiming.broker_trouble.clear()
        return leases

    async def _wait_for_task(self, stop: asyncio.Event) -> None:
        """Until there may be a task, the stop signal, or a moment has passed."""
        await first_of(self._broker.wait_for_ready(self.stage, timeout_seconds=_IDLE_SECONDS), stop.wait())

    async def _work_alone(self, suspects: Sequence[Lease], fresh: Sequence[Lease]) -> None:
        """Do the first suspect with nothing else at work in the process, then the fresh tasks of the claim.

        The other suspects go back to the queue: a task in hand beside a suspect would be blamed for its
        death. Fresh tasks stay in hand. If the process dies, they become suspects and are tried alone in
        their turn. To hand all back and claim again is no way: every claim is charged, so the tenant of the
        suspect would go to the end of the line each time.
        """
        first, *others = suspects
        held = [first, *fresh]
        try:
            await self._settling.hand_back(others)
            async with self._leases_renewed(held), self._exclusive_slot.exclusive() as exclusive:
                if exclusive:
                    self._log.debug("tried alone", task=first.task.id, attempt=first.attempt)
                    await self.work([first])
                else:  # another loop runs a suspect of its own, and waits for this one to leave
                    await self._settling.hand_back([first])
        except asyncio.CancelledError:
            await self._settling.hand_back(held)
            raise
        if fresh:
            await self.work(fresh)

    async def _process(self, leases: Sequence[Lease], done: Done) -> Failures:
        """The failures of the claim. A task that was delivered too often is not tried again."""
        failures: dict[str, Exception] = {
            lease.task.id: WorkerDied(f"its worker died or failed {self.attempt_of(lease) - 1} times")
            for lease in leases
            if self.attempt_of(lease) > self.max_attempts(lease)
        }
        allowed = [lease for lease in leases if lease.task.id not in failures]
        if allowed:
            try:
                failures.update(await self.process(allowed, done))
                if not any(isinstance(failure, Transient | StorageFull) for failure in failures.values()):
                    self._trouble.clear()
            except Exception as exc:  # noqa: BLE001 - every task is settled by it, of whatever class it is
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
        cost = sum(lease.task.cost for lease in leases if lease.task.id not in failures)
        self._metrics.task_cost_tokens_total.labels(stage).inc(cost)

    def _leases_renewed(self, leases: Sequence[Lease]) -> AbstractAsyncContextManager[None]:
        seconds = self._pool.lease_seconds
        return leases_renewed(self._broker, leases, lease_seconds=seconds, name=self.name, log=self._log)


def decoded(
    leases: Sequence[Lease], kind: type[MessageT]
) -> tuple[list[tuple[Lease, MessageT]], dict[str, Exception]]:
    """The messages of the leases that can be read, and the failures of those that cannot."""
    messages: list[tuple[Lease, MessageT]] = []
    failures: dict[str, Exception] = {}
    for lease in leases:
        try:
            messages.append((lease, kind.decode(lease.task.payload)))
        except (UndecodableMessage, LaterMessage) as exc:
            failures[lease.task.id] = exc
    return messages, failures
