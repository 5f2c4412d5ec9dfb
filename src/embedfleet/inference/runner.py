"""A loaded model: one replica or several behind one inbox."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import InvalidStateError
from contextlib import aclosing, suppress
from dataclasses import dataclass
from time import monotonic

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest, LeaseLost, ModelStuck, Transient
from embedfleet.inference.backend import BackendFactory, EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.batching import MAX_TEXTS, plan_batches, plan_in_order, soonest_first
from embedfleet.inference.inbox import Inbox, Microbatch
from embedfleet.inference.isolation import IsolatedOutcome
from embedfleet.inference.meter import ModelMeter
from embedfleet.inference.replica import Replica, Running, closing_error, fail_waiting
from embedfleet.metrics import Metrics
from embedfleet.waiting import cancel_and_wait


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """`vectors`: float32 (n, dim), zero in the rows that `failed` (position -> reason) names."""

    vectors: NDArray[np.float32]
    failed: Mapping[int, str]


OnPart = Callable[[NDArray[np.int64], IsolatedOutcome], None]
"""Gets the positions of a micro-batch's texts in the batch of the call, and their outcome."""


class ModelRunner:
    """Embeds on threads of its own, one a replica. All methods but the constructor belong to one event loop.

    A call's texts are grouped by length into micro-batches. Of each call only as many are handed over at a
    time as the replicas can take, and `prefetch` more. So a thread finds the next micro-batch ready when it
    has finished one; calls that run side by side share the model micro-batch by micro-batch; and an
    interactive call waits only for the running micro-batch, and for one more that a GPU was given ahead.
    """

    def __init__(
        self,
        open_backends: Sequence[BackendFactory],
        *,
        microbatch_tokens: int | Callable[[EmbeddingBackend], int],
        prefetch: int = 1,
        meter: ModelMeter | None = None,
        stuck_after_seconds: float = math.inf,
    ) -> None:
        """`open_backends`: one a replica. `microbatch_tokens`: padded tokens of a call, or a function that
        finds this number, called on each replica's thread. `stuck_after_seconds`: a micro-batch that takes
        longer counts as hung."""
        if not open_backends:
            raise InvalidRequest("a runner needs at least one replica")
        budget_of = microbatch_tokens if callable(microbatch_tokens) else lambda _: microbatch_tokens
        self._inbox = Inbox()
        meter = meter or ModelMeter(Metrics(), "unnamed")
        self._replicas = [
            Replica(open_backend, budget_of, self._inbox, meter) for open_backend in open_backends
        ]
        self._prefetch = prefetch
        self._max_handed_over = 0  # micro-batches of one call; known once the replicas are loaded
        self._stuck_after_seconds = stuck_after_seconds
        self._budget_tokens = 0
        self._closed = False
        self.stuck = False
        self._hang_watch: asyncio.Task[None] | None = None

    @property
    def info(self) -> ModelInfo:
        """What the loaded model is. Only after `start`."""
        return self._replicas[0].loaded.result(timeout=0).info

    @property
    def microbatch_tokens(self) -> int:
        """The most padded tokens that a call of the model has. Only after `start`."""
        return self._budget_tokens

    @property
    def calls_at_once(self) -> int:
        """How many micro-batches the replicas work on at a time. Only after `start`."""
        return self._max_handed_over - self._prefetch

    async def start(self) -> None:
        """Load each replica on its thread and run it once. Raises UnknownModel or ModelError."""
        for replica in self._replicas:
            replica.start()
        loaded = await asyncio.gather(*(asyncio.wrap_future(replica.loaded) for replica in self._replicas))
        # One budget for all: any replica may take any micro-batch.
        self._budget_tokens = min(each.budget_tokens for each in loaded)
        self._max_handed_over = sum(each.max_microbatches for each in loaded) + self._prefetch
        if math.isfinite(self._stuck_after_seconds):
            self._hang_watch = asyncio.create_task(
                self._watch_for_hangs(), name=f"watch model {self.info.name}"
            )

    @property
    def broken(self) -> bool:
        """Whether it can embed no more although it was not closed: a thread is stuck or has ended."""
        return self.stuck or not (self._closed or all(replica.alive for replica in self._replicas))

    async def embed(
        self,
        batch: TokenBatch,
        *,
        interactive: bool = False,
        owners: NDArray[np.int64] | None = None,
        on_part: OnPart | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> EmbedOutcome:
        """Embed every text. A text that fails is named in the outcome; the other texts succeed.

        `interactive` calls go before bulk calls from the next micro-batch on. `on_part` is called on the
        event loop with each micro-batch's positions and outcome. `owners`, int64 (n,), says which owner each
        text belongs to: micro-batches are ordered so that owners are complete early.

        `should_stop` is asked on the event loop before each micro-batch is handed over. Once it returns true
        the call raises LeaseLost: its vectors have no owner any more. A cancelled call likewise leaves the
        model after the running micro-batch.

        Raises Transient when the runner is closed or the model is unavailable. Before that `on_part` gets
        every micro-batch that was under way and succeeded: a server may charge for it. Raises ModelFailure
        when the model hangs or a single text does not fit into memory, and InvalidRequest for a batch whose
        arrays disagree.
        """
        _require_consistent(batch)
        vectors = np.zeros((len(batch), self.info.dim), dtype=np.float32)
        failed: dict[int, str] = {}
        groups = self._plan(batch.lengths, owners)
        # Closed when the block ends for any reason: after an exception or a cancellation the micro-batches
        # that are handed over must be cancelled now, not when the generator is garbage-collected.
        async with aclosing(self._run_groups(batch, groups, interactive, should_stop)) as results:
            async for positions, result in results:
                vectors[positions] = result.vectors
                failed.update((int(positions[row]), reason) for row, reason in result.failed.items())
                if on_part is not None:
                    on_part(positions, result)
                if result.ran_out_of_memory:
                    self._lower_budget(batch.lengths[positions])
        return EmbedOutcome(vectors, failed)

    async def close(self) -> None:
        """Finish the running micro-batches, fail those that wait with Transient, and join the threads.

        A micro-batch that waits for a server fails, too. Stuck threads are not joined: they never end. May
        be called again, and before `start` has returned.
        """
        # In this order: `_closed` before the threads end, or the runner would count as broken; the inbox
        # before the interrupts, or a replica would go on with its next micro-batch.
        self._closed = True
        fail_waiting(self._inbox)
        if self._hang_watch is not None:
            await cancel_and_wait(self._hang_watch)
        for replica in self._replicas:
            replica.interrupt()
        for replica in self._replicas:
            if replica.started and not (self.stuck and replica.running):
                await asyncio.to_thread(replica.join)

    async def _run_groups(
        self,
        batch: TokenBatch,
        groups: Sequence[NDArray[np.int64]],
        interactive: bool,
        should_stop: Callable[[], bool] | None,
    ) -> AsyncGenerator[tuple[NDArray[np.int64], IsolatedOutcome], None]:
        """Hand over the groups, a few at a time, and yield the positions and outcome of each, in order."""
        waiting = deque(groups)
        handed_over: deque[tuple[NDArray[np.int64], asyncio.Future[IsolatedOutcome]]] = deque()
        unavailable: Transient | None = None
        try:
            while waiting or handed_over:
                if waiting and len(handed_over) < self._max_handed_over:
                    self._require_wanted(should_stop)
                    positions = waiting.popleft()
                    outcome = self._submit(batch.take(positions), interactive=interactive)
                    handed_over.append((positions, outcome))
                    continue
                # The oldest first, even if another replica has finished a later one: owners are to be
                # complete in the order of the plan.
                positions, outcome = handed_over.popleft()
                try:
                    result = await outcome
                except Transient as exc:
                    # Hand over no more, but wait for those under way: they may succeed.
                    unavailable = unavailable or exc
                    waiting.clear()
                    continue
                yield positions, result
        finally:
            # The replicas drop a cancelled micro-batch unless they have begun it.
            for _, outcome in handed_over:
                outcome.cancel()
        if unavailable is not None:
            raise unavailable

    def _plan(self, lengths: NDArray[np.int64], owners: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
        plan = plan_batches if self.info.pads else plan_in_order
        max_texts = self.info.texts_per_call or MAX_TEXTS
        groups = plan(lengths, budget_tokens=self._budget_tokens, max_texts=max_texts)
        return groups if owners is None else soonest_first(groups, owners)

    def _submit(self, batch: TokenBatch, *, interactive: bool) -> asyncio.Future[IsolatedOutcome]:
        microbatch = Microbatch(batch)
        if not self._inbox.put(microbatch, interactive=interactive):
            raise closing_error()
        return asyncio.wrap_future(microbatch.outcome)

    def _require_wanted(self, should_stop: Callable[[], bool] | None) -> None:
        if should_stop is not None and should_stop():
            raise LeaseLost(f"model {self.info.name}: stopped between micro-batches: the rest is not wanted")

    def _lower_budget(self, lengths: NDArray[np.int64]) -> None:
        """Halve the budget after a micro-batch with texts of these lengths did not fit into memory. It stays
        halved: with the old one most micro-batches would fail first and then be embedded in halves."""
        halved = max(1, len(lengths) * int(lengths.max()) // 2)
        if halved < self._budget_tokens:
            self._budget_tokens = halved
            logger.warning("model {}: out of memory, micro-batches now {} tokens", self.info.name, halved)

    async def _watch_for_hangs(self) -> None:
        while not self.stuck:
            # A hang is found after at most five quarters of the time.
            await asyncio.sleep(self._stuck_after_seconds / 4)
            hung = [
                running
                for replica in self._replicas
                # Read once: the replica's thread replaces it at any moment.
                if (running := replica.running) and monotonic() - running.since > self._stuck_after_seconds
            ]
            if hung:
                self._abandon(hung)

    def _abandon(self, hung: Sequence[Running]) -> None:
        """Fail every micro-batch that waits for the model. The hung thread stays, as a thread cannot be
        killed."""
        self.stuck = True
        logger.error("model {}: did not come back from a call: left behind", self.info.name)
        failure = ModelStuck(
            f"model {self.info.name}: a call took more than {self._stuck_after_seconds:g} s "
            "(models.stuck_after_seconds): it counts as hung"
        )
        for microbatch in self._inbox.close():
            if microbatch.outcome.set_running_or_notify_cancel():
                microbatch.outcome.set_exception(failure)
        for microbatch in (each for running in hung for each in running.microbatches):
            with suppress(InvalidStateError):  # the call has returned after all, in this moment
                microbatch.outcome.set_exception(failure)


def _require_consistent(batch: TokenBatch) -> None:
    if int(batch.lengths.sum()) != len(batch.token_ids):
        raise InvalidRequest(
            f"token batch: lengths sum to {int(batch.lengths.sum())}, there are {len(batch.token_ids)} ids"
        )
    if batch.texts is not None and len(batch.texts) != len(batch):
        raise InvalidRequest(f"token batch: {len(batch.texts)} strings for {len(batch)} texts")
