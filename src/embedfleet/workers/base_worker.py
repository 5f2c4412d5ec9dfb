"""What every loop of a worker does around its work: claim, keep the leases, settle each task.

Delivery is at least once and every step may be repeated harmlessly, so the order is: work, downstream,
SQL, and the ack last. What an exception means is decided by its class alone (`errors.py`).
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic, perf_counter
from typing import ClassVar, TypeVar

from loguru import logger

from embedfleet.errors import (
    BrokerUnavailable,
    EmbedfleetError,
    LaterMessage,
    LeaseLost,
    Permanent,
    StorageFull,
    Transient,
    UndecodableMessage,
)
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Message, Stage
from embedfleet.retry import RetryPolicy
from embedfleet.settings import DEFAULT_BATCH_TOKENS
from embedfleet.waiting import first_of, wait_briefly
from embedfleet.workers.services import Services

# An idle loop sleeps at most this long before it looks at its stop signal and the queue again.
_IDLE_SECONDS = 1.0
# How long a loop pauses when the broker or the database is away: doubling between these two.
_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
# A stop that does not wait gives the broker this long to take the tasks back.
_HAND_BACK_SECONDS = 2.0
_RETRY_BASE_SECONDS = 0.5
_RETRY_CAP_SECONDS = 30.0
# Renewing three times a lease survives two lost renewals.
_RENEWALS_PER_LEASE = 3

MessageT = TypeVar("MessageT", bound=Message)

Failures = Mapping[str, Exception]
"""Task id to what went wrong with it; tasks not named are done."""

Done = Callable[[Lease], Awaitable[None]]
"""Settles a task of the claim before the others, its effects being durable."""


class Interrupted(Exception):
    """A long task is asked to make room (a stop, or a task that must be tried alone): it goes back to the
    queue, uncounted."""


class WorkerDied(Permanent):
    """A task was in hand when its worker died, as often as that is allowed."""


class SharedClaiming:
    """What the loops of one worker share.

    One loop at a time waits for tasks and claims, so that they do not all wake up for one task. What one loop
    learns about the broker, the others need not find out again.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.trouble: BrokerUnavailable | None = None


class StageLoop(ABC):
    """One loop of a worker: it claims tasks of one stage and does them. `run` it as a task.

    Subclasses say what the work is.
    """

    stage: ClassVar[Stage]

    def __init__(self, name: str, services: Services, *, rng: random.Random | None = None) -> None:
        self.name = name
        self.claiming = SharedClaiming()
        self._own_trouble: EmbedfleetError | None = None
        self._broker = services.broker
        self._database = services.database
        self._metrics = services.metrics
        self._clock = services.clock
        self._exclusive_slot = services.exclusive_slot
        self._journal = services.journal
        self._pool = services.pools.of(self.stage)
        self._retries = RetryPolicy(base_seconds=_RETRY_BASE_SECONDS, cap_seconds=_RETRY_CAP_SECONDS)
        self._rng = rng or random.Random()
        self._stop = asyncio.Event()
        self._waited_seconds = 0.0
        self._log = logger.bind(stage=self.stage.value, worker=name)

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off, for a person to read."""
        return self._own_trouble or self.claiming.trouble

    @abstractmethod
    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        """Do the tasks. On return the effects of every task not named in the answer are durable.

        What is `done` before may be said so. An exception counts for all the others.
        """

    @abstractmethod
    async def give_up(self, lease: Lease, reason: str) -> None:
        """Record in SQL that the task will never be done. Must not depend on the payload being readable."""

    async def divide(self, lease: Lease, reason: str) -> bool:
        """Offer the task anew in smaller parts, so that only what is at fault is given up. False if it is one
        whole: always, unless overridden."""
        return False

    def most_attempts(self, lease: Lease) -> int:
        """Deliveries of the task before it is divided or given up."""
        return self._pool.max_attempts

    def is_suspect(self, lease: Lease) -> bool:
        """Whether the task must be tried alone: its worker died or failed before."""
        return 1 < self.attempt_of(lease) <= self.most_attempts(lease)

    def attempt_of(self, lease: Lease) -> int:
        """This delivery's number, counting those of earlier lives of queues in process."""
        return lease.attempt + self._journal.deaths_of(self.stage, lease.task.id)

    def tokens_per_claim(self) -> int:
        """Where the settings leave it open."""
        return DEFAULT_BATCH_TOKENS

    async def has_room(self) -> bool:
        """Whether the stage after this one can take more (back-pressure). True unless overridden."""
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what was claimed by then is finished or handed back.

        Cancelled, it hands back what it holds and ends at once. A broker or database that is away is waited
        for, however long it takes.
        """
        self._stop = stop
        pause = _PAUSE_SECONDS
        while not stop.is_set():
            try:
                await self._turn(stop)
                pause = _PAUSE_SECONDS
            except Transient as exc:
                self._note_trouble(exc)
                await wait_briefly(stop, pause * self._rng.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _turn(self, stop: asyncio.Event) -> None:
        """Claim once and do what was claimed, or wait a moment."""
        started = perf_counter()
        async with AsyncExitStack() as company:
            async with self.claiming.turn:
                leases = await self._next_claim(stop, company)
            self._metrics.idle_seconds_total.labels(self.stage.value).inc(perf_counter() - started)
            suspects = [lease for lease in leases if self.is_suspect(lease)]
            if suspects:
                await self._work_alone(suspects, [lease for lease in leases if lease not in suspects])
            elif leases:
                await self.work(leases)

    async def _next_claim(self, stop: asyncio.Event, company: AsyncExitStack) -> list[Lease]:
        """A claim, within `company` from now on; nothing, after a moment, if there is no task or no room."""
        if not await self.has_room():
            await wait_briefly(stop)
            return []
        async with AsyncExitStack() as joined:
            await joined.enter_async_context(self._exclusive_slot.shared())
            leases = [] if stop.is_set() else await self._claim()  # set while somebody was alone, perhaps
            if leases:
                await company.enter_async_context(joined.pop_all())
                return leases
        await self._wait_for_task(stop)
        return []

    async def _work_alone(self, suspects: Sequence[Lease], fresh: Sequence[Lease]) -> None:
        """One suspect with nothing else at work in the process, then what is fresh of the claim.

        Nobody holds a second suspect meanwhile. What is fresh may be held: if the process dies, it is suspect
        from then on, and tried alone. To give all back and claim again would not do: every claim is charged,
        so the suspect's tenant would come to the end of the line each time.
        """
        first, *others = suspects
        held = [first, *fresh]
        try:
            await self._hand_back_all(others)
            async with self._leases_kept(held), self._exclusive_slot.exclusive() as exclusive:
                if exclusive:
                    self._log.debug("tried alone", task=first.task.id, attempt=first.attempt)
                    await self.work([first])
                else:
                    await self._hand_back_all([first])
        except asyncio.CancelledError:
            await self._hand_back_all(held)
            raise
        if fresh:
            await self.work(fresh)

    async def _claim(self) -> list[Lease]:
        leases = await self._broker.claim(
            self.stage,
            worker=self.name,
            max_tasks=self._pool.batch_tasks,
            max_cost=self._pool.batch_tokens or self.tokens_per_claim(),
            lease_seconds=self._pool.lease_seconds,
        )
        if self.claiming.trouble is not None:
            self._log.info("the broker answers again")
            self.claiming.trouble = None
        return leases

    async def work(self, leases: Sequence[Lease]) -> None:
        """Process claimed tasks and settle each with the broker."""
        started, self._waited_seconds = perf_counter(), 0.0
        held = {lease.task.id: lease for lease in leases}
        try:
            async with self._leases_kept(leases):
                with self._journal.recorded(leases) as remove:

                    async def done(lease: Lease) -> None:
                        await self._settle(lease, None, held)
                        remove(lease)

                    failures = await self._process(leases, done)
                await asyncio.gather(
                    *(self._settle(lease, failures.get(lease.task.id), held) for lease in list(held.values()))
                )
        except asyncio.CancelledError:
            await self._hand_back_all(held.values())
            raise
        seconds = perf_counter() - started
        stage = self.stage.value
        self._metrics.stage_latency_seconds.labels(stage).observe(seconds)
        self._metrics.busy_seconds_total.labels(stage).inc(max(0.0, seconds - self._waited_seconds))
        cost = sum(lease.task.cost for lease in leases if lease.task.id not in failures)
        self._metrics.task_cost_tokens_total.labels(stage).inc(cost)

    async def wait_for_room(self, seconds: float) -> None:
        """A pause in the middle of a task that is not work: the rate of the pool is measured without it."""
        started = perf_counter()
        await wait_briefly(self._stop, seconds)
        self._waited_seconds += perf_counter() - started

    async def _process(self, leases: Sequence[Lease], done: Done) -> Failures:
        """What failed of the claim; tasks that were delivered too often are not tried again."""
        failures: dict[str, Exception] = {
            lease.task.id: WorkerDied(f"its worker died or failed {self.attempt_of(lease) - 1} times")
            for lease in leases
            if self.attempt_of(lease) > self.most_attempts(lease)
        }
        fresh = [lease for lease in leases if lease.task.id not in failures]
        if fresh:
            try:
                failures.update(await self.process(fresh, done))
                if not any(isinstance(failure, Transient | StorageFull) for failure in failures.values()):
                    self._own_trouble = None
            except Exception as exc:  # noqa: BLE001 - whatever it was, every task is settled by it
                failures.update({lease.task.id: exc for lease in fresh})
        return failures

    async def _settle(self, lease: Lease, failure: Exception | None, held: dict[str, Lease]) -> None:
        """Tell the broker what became of the task, also if the broker is away for a while."""
        give_up_at = monotonic() + self._pool.lease_seconds
        while True:
            try:
                await self._tell(lease, failure)
                break
            except LeaseLost:
                # Another worker has the task now and will settle it; ours changed nothing it cannot repeat.
                self._log.info("lease lost before it was settled", task=lease.task.id)
                break
            except BrokerUnavailable as exc:
                self._note_trouble(exc)
                if self._stop.is_set() or monotonic() >= give_up_at:
                    self._log.warning("not settled, it will be delivered again", task=lease.task.id)
                    break
                await wait_briefly(self._stop, _LONGEST_PAUSE_SECONDS * self._rng.uniform(0.1, 0.5))
        held.pop(lease.task.id, None)

    async def _tell(self, lease: Lease, failure: Exception | None) -> None:
        if failure is None:
            await self._broker.ack(lease)
        elif isinstance(failure, Interrupted):
            await self._broker.hand_back(lease)
        elif isinstance(failure, LeaseLost):
            self._log.info("lease lost, result dropped", task=lease.task.id)
        elif isinstance(failure, Transient | StorageFull):
            await self._put_off(lease, failure)
        elif isinstance(failure, Permanent) or self.attempt_of(lease) >= self.most_attempts(lease):
            await self._give_up(lease, failure)
        else:
            self._log.opt(exception=failure).warning("task failed, will be retried", task=lease.task.id)
            await self._retry(lease, failure, counted=True)

    async def _put_off(self, lease: Lease, failure: EmbedfleetError) -> None:
        """Not the task's fault: it keeps its attempts however long the service is away."""
        self._note_trouble(failure)
        await self._retry(lease, failure, counted=False)

    def _note_trouble(self, failure: EmbedfleetError) -> None:
        """Said once, not at every try."""
        if self.trouble is None:
            self._log.warning("waiting: {}", failure)
        if isinstance(failure, BrokerUnavailable):
            self.claiming.trouble = failure
        else:
            self._own_trouble = failure

    async def _retry(self, lease: Lease, failure: Exception, *, counted: bool) -> None:
        delay = self._retries.delay_seconds(lease.attempt, self._rng)
        if isinstance(failure, Transient):
            delay += failure.retry_after_seconds
        await self._broker.retry_later(lease, delay_seconds=delay, reason=str(failure), counted=counted)
        self._metrics.retries_total.labels(self.stage.value).inc()

    async def _give_up(self, lease: Lease, failure: Exception) -> None:
        reason = str(failure) if isinstance(failure, EmbedfleetError) else repr(failure)
        unexpected = None if isinstance(failure, EmbedfleetError) else failure
        may_be_one_part = isinstance(failure, WorkerDied) or not isinstance(failure, Permanent)
        try:
            if may_be_one_part and await self.divide(lease, reason):
                self._log.opt(exception=unexpected).warning("task divided: {}", reason, task=lease.task.id)
                self._metrics.divided_tasks_total.labels(self.stage.value).inc()
                await self._broker.ack(lease)
                return
            self._log.opt(exception=unexpected).error("task given up: {}", reason, task=lease.task.id)
            await self.give_up(lease, reason)
        except (Transient, StorageFull) as exc:
            await self._put_off(lease, exc)
            return
        await self._broker.dead_letter(lease, reason=reason)
        self._metrics.dead_letters_total.labels(self.stage.value).inc()

    async def _hand_back_all(self, held: Iterable[Lease]) -> None:
        """Others may take the tasks at once instead of after the lease; their attempts are not counted."""
        leases = list(held)
        if not leases:
            return
        try:
            async with asyncio.timeout(_HAND_BACK_SECONDS):
                answers = await asyncio.gather(
                    *(self._broker.hand_back(lease) for lease in leases), return_exceptions=True
                )
        except TimeoutError:
            self._log.warning("{} tasks could not be handed back in time", len(leases))
            return
        for lease, answer in zip(leases, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, LeaseLost):
                self._log.warning("not handed back: {}", answer, task=lease.task.id)

    async def _wait_for_task(self, stop: asyncio.Event) -> None:
        """Until there may be a task, the stop signal, or a moment has passed."""
        await first_of(self._broker.wait_for_ready(self.stage, timeout_seconds=_IDLE_SECONDS), stop.wait())

    @asynccontextmanager
    async def _leases_kept(self, leases: Sequence[Lease]) -> AsyncIterator[None]:
        """Renew from a task of its own: a lease must not depend on how long the work takes."""
        keeper = asyncio.create_task(self._keep(list(leases)), name=f"{self.name}-leases")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, held: list[Lease]) -> None:
        while held:
            await asyncio.sleep(self._pool.lease_seconds / _RENEWALS_PER_LEASE)
            try:
                held = await self._broker.renew(held, lease_seconds=self._pool.lease_seconds)
            except Exception as exc:  # noqa: BLE001 - to stop renewing would be to lose the leases
                self._log.warning("leases could not be renewed: {!r}", exc)


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
