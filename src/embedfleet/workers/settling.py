"""Settles a claimed task: it is acked, handed back, put off, tried again, divided or given up.

The class of the exception and the number of attempts decide which (`errors.py`). Delivery is at least once,
so a task that cannot be settled is delivered again when its lease ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from embedfleet.errors import BrokerUnavailable, EmbedfleetError, LeaseLost, Permanent, StorageFull, Transient
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker, Lease
from embedfleet.queue_schemas import Stage
from embedfleet.retry import RetryPolicy
from embedfleet.waiting import wait_briefly

if TYPE_CHECKING:
    from loguru import Logger

# How long a failed task waits for its next try. It begins at half a second, so that a short fault costs
# little. It ends at half a minute, so that work goes on soon after a long fault.
_RETRIES = RetryPolicy(base_seconds=0.5, cap_seconds=30.0)
# The pause before a broker that is away is called again. It is random, so that the loops do not call at once.
_SHORTEST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 1.0
# A stop at once waits this long for the broker to take the tasks back.
_HAND_BACK_SECONDS = 2.0


class Interrupted(Exception):
    """A long task was broken off for a stop, or for a task that is tried alone.

    It goes back to the queue, and the attempt is not counted.
    """


class WorkerDied(Permanent):
    """Workers died or failed with the task in hand as often as is allowed."""


class StageRules(Protocol):
    """The decisions about a task that depend on its stage. Every `StageLoop` makes them."""

    def max_attempts(self, lease: Lease) -> int:
        """Return how many deliveries of the task may fail before it is divided or given up."""
        ...

    async def divide(self, lease: Lease, reason: str) -> bool:
        """Offer the task again in smaller parts. Return False if it cannot be divided."""
        ...

    async def give_up(self, lease: Lease, reason: str) -> None:
        """Record in SQL that the task will never be done."""
        ...


class Settling:
    """Tells the broker what became of the tasks of one stage."""

    def __init__(
        self,
        stage: Stage,
        rules: StageRules,
        broker: Broker,
        metrics: Metrics,
        *,
        lease_seconds: float,
        note_trouble: Callable[[EmbedfleetError], None],
        rng: random.Random,
        log: Logger,
    ) -> None:
        """`note_trouble` is called with each failure that is a service's fault and not the task's."""
        self._stage = stage
        self._rules = rules
        self._broker = broker
        self._metrics = metrics
        self._lease_seconds = lease_seconds
        self._note_trouble = note_trouble
        self._rng = rng
        self._log = log

    async def settle(
        self, leases: Sequence[Lease], failures: Mapping[str, Exception], stop: asyncio.Event
    ) -> None:
        """Settle tasks. `failures` has the exception of each failed task, by task id; the others are done.

        The tasks that are done are acked in one call, whatever their number. If the broker is away, this
        calls it again for the length of a lease, or until `stop`. After that another worker may have the
        tasks anyway.
        """
        done: list[Lease] = []
        interrupted: list[Lease] = []
        failed: list[tuple[Lease, Exception]] = []
        for lease in leases:
            failure = failures.get(lease.task.id)
            if failure is None:
                done.append(lease)
            elif isinstance(failure, Interrupted):
                interrupted.append(lease)
            else:
                failed.append((lease, failure))
        await asyncio.gather(
            self._until_told(done, partial(self._tell_together, done, self._broker.ack), stop),
            self._until_told(
                interrupted, partial(self._tell_together, interrupted, self._broker.hand_back), stop
            ),
            *(
                self._until_told([lease], partial(self._tell_failure, lease, failure), stop)
                for lease, failure in failed
            ),
        )

    async def _until_told(
        self, leases: Sequence[Lease], tell: Callable[[], Awaitable[None]], stop: asyncio.Event
    ) -> None:
        """Call `tell` until the broker has answered, for the length of a lease at most."""
        if not leases:
            return
        give_up_at = monotonic() + self._lease_seconds
        while True:
            try:
                await tell()
                return
            except BrokerUnavailable as exc:
                self._note_trouble(exc)
                if stop.is_set() or monotonic() >= give_up_at:
                    self._log.warning(
                        "{} tasks not settled, they will be delivered again",
                        len(leases),
                        task=leases[0].task.id,
                    )
                    return
                await wait_briefly(stop, self._rng.uniform(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))

    async def _tell_together(
        self, leases: Sequence[Lease], call: Callable[[Sequence[Lease]], Awaitable[list[Lease]]]
    ) -> None:
        # Another worker has a lost task now and settles it. Every effect may be repeated.
        if lost := await call(leases):
            self._log.info("{} leases lost before they were settled", len(lost), task=lost[0].task.id)

    async def let_wait(self, lease: Lease, seconds: float, reason: str, stop: asyncio.Event) -> None:
        """Give a task back that cannot be tried now, uncounted, so that it is claimed in `seconds` again."""
        await self._until_told([lease], partial(self._tell_to_wait, lease, seconds, reason), stop)

    async def _tell_to_wait(self, lease: Lease, seconds: float, reason: str) -> None:
        try:
            await self._broker.retry_later(lease, delay_seconds=seconds, reason=reason, counted=False)
        except LeaseLost:
            self._log.info("lease lost before the task was put off", task=lease.task.id)

    async def hand_back(self, leases: Iterable[Lease]) -> None:
        """Give tasks back without counting the attempt, so that other workers may claim them at once.

        Returns within 2 s. A task that could not be given back is delivered again when its lease ends.
        """
        leases = list(leases)
        if not leases:
            return
        try:
            async with asyncio.timeout(_HAND_BACK_SECONDS):
                await self._broker.hand_back(leases)
        except TimeoutError:
            self._log.warning("{} tasks could not be handed back in time", len(leases))
        except BrokerUnavailable as exc:
            self._log.warning("{} tasks were not handed back: {}", len(leases), exc)

    async def _tell_failure(self, lease: Lease, failure: Exception) -> None:
        try:
            if isinstance(failure, LeaseLost):
                self._log.info("lease lost, result dropped", task=lease.task.id)
            elif isinstance(failure, Transient | StorageFull):
                await self._put_off(lease, failure)
            elif isinstance(failure, Permanent) or self._is_last_attempt(lease):
                await self._divide_or_give_up(lease, failure)
            else:
                self._log.opt(exception=failure).warning(
                    "the task failed: it is tried again", task=lease.task.id
                )
                await self._retry(lease, failure, counted=True)
        except LeaseLost:
            self._log.info("lease lost before it was settled", task=lease.task.id)

    def _is_last_attempt(self, lease: Lease) -> bool:
        return lease.attempt >= self._rules.max_attempts(lease)

    async def _put_off(self, lease: Lease, failure: EmbedfleetError) -> None:
        """Try the task again later, uncounted, because a service is at fault and not the task."""
        self._note_trouble(failure)
        await self._retry(lease, failure, counted=False)

    async def _retry(self, lease: Lease, failure: Exception, *, counted: bool) -> None:
        delay = _RETRIES.delay_seconds(lease.attempt, self._rng)
        if isinstance(failure, Transient):
            delay += failure.retry_after_seconds
        await self._broker.retry_later(lease, delay_seconds=delay, reason=str(failure), counted=counted)
        self._metrics.retries_total.labels(self._stage.value).inc()

    async def _divide_or_give_up(self, lease: Lease, failure: Exception) -> None:
        """Divide the task if only one part of it may be at fault; otherwise record that it is given up.

        The new parts or SQL come first, and the broker last. A crash in between repeats the first step, which
        does no harm. In the other order a crash could lose the task.
        """
        reason = str(failure) if isinstance(failure, EmbedfleetError) else repr(failure)
        unexpected = None if isinstance(failure, EmbedfleetError) else failure  # the log gets its traceback
        may_be_one_part = isinstance(failure, WorkerDied) or not isinstance(failure, Permanent)
        try:
            if may_be_one_part and await self._rules.divide(lease, reason):
                self._log.opt(exception=unexpected).warning("task divided: {}", reason, task=lease.task.id)
                self._metrics.divided_tasks_total.labels(self._stage.value).inc()
                await self._tell_together([lease], self._broker.ack)
                return
            self._log.opt(exception=unexpected).error("task given up: {}", reason, task=lease.task.id)
            await self._rules.give_up(lease, reason)
        except (Transient, StorageFull) as exc:
            await self._put_off(lease, exc)
            return
        await self._broker.dead_letter(lease, reason=reason)
        self._metrics.dead_letters_total.labels(self._stage.value).inc()
