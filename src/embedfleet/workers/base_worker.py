"""What every worker does around its work: claim, keep the leases, settle each task.

Delivery is at least once and every step may be repeated harmlessly, so the order is: work, downstream,
SQL, and the ack last. What an exception means is decided by its class alone (`errors.py`).
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, ClassVar, TypeVar

from loguru import logger

from embedfleet.errors import (
    EmbedfleetError,
    LeaseLost,
    Permanent,
    StorageFull,
    Transient,
    UndecodableMessage,
)
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker, Lease, Task
from embedfleet.queue.retry import RetryPolicy
from embedfleet.queue_schemas import JobStatus, Message, Stage
from embedfleet.settings import PoolSettings

# How long an idle worker sleeps at most before it looks at its stop signal and the queue again.
_IDLE_SECONDS = 1.0
_RETRY_BASE_SECONDS = 0.5
_RETRY_CAP_SECONDS = 30.0
# Renewing three times a lease survives two lost renewals.
_RENEWALS_PER_LEASE = 3

MessageT = TypeVar("MessageT", bound=Message)

Failures = Mapping[str, Exception]
"""Task id to what went wrong with it; tasks not named are done."""


class Interrupted(Exception):
    """The stop signal came in the middle of a long task: it goes back to the queue, uncounted."""


class Worker(ABC):
    """One member of a pool. `run` it as a task; subclasses say what the work is."""

    stage: ClassVar[Stage]

    def __init__(
        self,
        *,
        name: str,
        broker: Broker,
        pool: PoolSettings,
        metrics: Metrics,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.trouble: EmbedfleetError | None = None  # why tasks are being put off, for a person to read
        self._broker = broker
        self._pool = pool
        self._retries = RetryPolicy(
            max_attempts=pool.max_attempts,
            base_seconds=_RETRY_BASE_SECONDS,
            cap_seconds=_RETRY_CAP_SECONDS,
        )
        self._metrics = metrics
        self._rng = rng or random.Random()
        self._stop = asyncio.Event()
        self._log = logger.bind(stage=self.stage.value, worker=name)

    @abstractmethod
    async def process(self, leases: Sequence[Lease]) -> Failures:
        """Do the tasks. On return the effects of every task not named in the answer are durable.

        An exception counts for all of them.
        """

    @abstractmethod
    async def give_up(self, lease: Lease, reason: str) -> None:
        """Record in SQL that the task will never be done. Must not depend on the payload being readable."""

    async def has_room(self) -> bool:
        """Whether the stage after this one can take more (back-pressure). True unless overridden."""
        return True

    def count_ended(self, status: JobStatus | None) -> None:
        """This worker brought a job to its end (None: it did not)."""
        if status is not None:
            self._metrics.jobs_total.labels(status.value).inc()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what was claimed by then is finished or handed back."""
        self._stop = stop
        while not stop.is_set():
            if not await self.has_room():
                await wait_briefly(stop)
                continue
            leases = await self._broker.claim(
                self.stage,
                worker=self.name,
                max_tasks=self._pool.batch_tasks,
                max_cost=self._pool.batch_tokens,
                lease_seconds=self._pool.lease_seconds,
            )
            if leases:
                await self.work(leases)
            else:
                await self._wait_for_task(stop)

    async def work(self, leases: Sequence[Lease]) -> None:
        """Process claimed tasks and settle each with the broker."""
        started = perf_counter()
        fresh = [lease for lease in leases if lease.attempt <= self._pool.max_attempts]
        async with self._leases_kept(leases):
            failures = await self._process(fresh)
            for lease in leases:
                if lease.attempt > self._pool.max_attempts:
                    died = Permanent(f"its worker died or failed {lease.attempt - 1} times")
                    await self._settle(lease, died)
                else:
                    await self._settle(lease, failures.get(lease.task.id))
        self._metrics.stage_latency_seconds.labels(self.stage.value).observe(perf_counter() - started)

    async def _process(self, leases: Sequence[Lease]) -> Failures:
        if not leases:
            return {}
        try:
            failures = await self.process(leases)
        except Exception as exc:  # noqa: BLE001 - whatever it was, every task is settled by it
            return {lease.task.id: exc for lease in leases}
        self.trouble = None
        return failures

    async def _settle(self, lease: Lease, failure: Exception | None) -> None:
        try:
            if failure is None:
                await self._broker.ack(lease)
            elif isinstance(failure, Interrupted):
                await self._broker.hand_back(lease)
            elif isinstance(failure, LeaseLost):
                self._log.info("lease lost, result dropped", task=lease.task.id)
            elif isinstance(failure, Transient | StorageFull):
                await self._put_off(lease, failure)
            elif isinstance(failure, Permanent) or self._retries.gives_up(lease.attempt):
                await self._give_up(lease, failure)
            else:
                self._log.opt(exception=failure).warning("task failed, will be retried", task=lease.task.id)
                await self._retry(lease, failure, counted=True)
        except LeaseLost:
            # Another worker has the task now and will settle it; ours changed nothing it cannot repeat.
            self._log.info("lease lost before it was settled", task=lease.task.id)

    async def _put_off(self, lease: Lease, failure: EmbedfleetError) -> None:
        """Not the task's fault: it keeps its attempts however long the service is away."""
        if self.trouble is None:
            self._log.warning("waiting: {}", failure)
        self.trouble = failure
        await self._retry(lease, failure, counted=False)

    async def _retry(self, lease: Lease, failure: Exception, *, counted: bool) -> None:
        self._metrics.retries_total.labels(self.stage.value).inc()
        delay = self._retries.delay_seconds(lease.attempt, self._rng)
        await self._broker.retry_later(lease, delay_seconds=delay, reason=str(failure), counted=counted)

    async def _give_up(self, lease: Lease, failure: Exception) -> None:
        reason = str(failure) if isinstance(failure, EmbedfleetError) else repr(failure)
        unexpected = None if isinstance(failure, EmbedfleetError) else failure
        self._log.opt(exception=unexpected).error("task given up: {}", reason, task=lease.task.id)
        try:
            await self.give_up(lease, reason)
        except (Transient, StorageFull) as exc:
            await self._put_off(lease, exc)
            return
        self._metrics.dead_letters_total.labels(self.stage.value).inc()
        await self._broker.dead_letter(lease, reason=reason)

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
        except UndecodableMessage as exc:
            failures[lease.task.id] = exc
    return messages, failures


async def first_of(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Return when the first has ended; the others are cancelled."""
    waiting = [asyncio.create_task(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def wait_briefly(stop: asyncio.Event, seconds: float = 0.02) -> None:
    """A pause that the stop signal ends."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def offer(broker: Broker, stage: Stage, tasks: Sequence[Task]) -> None:
    """Enqueue, also what was dead-lettered before: SQL says it is wanted again."""
    if await broker.enqueue(stage, tasks) < len(tasks):
        await broker.requeue_dead(stage, [task.id for task in tasks])
