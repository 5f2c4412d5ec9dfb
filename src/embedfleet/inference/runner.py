"""A loaded model, in one replica or several."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest, LeaseLost, ModelStuck, Transient
from embedfleet.inference.backend import BackendFactory, EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.batching import MOST_TEXTS, plan_batches, plan_in_order, soonest_first
from embedfleet.inference.inbox import Inbox, Microbatch
from embedfleet.inference.isolation import IsolatedOutcome
from embedfleet.inference.lane import Lane, Running, closed, fail_waiting
from embedfleet.inference.meter import ModelMeter
from embedfleet.metrics import Metrics


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """`vectors`: float32 (n, dim), zero where `failed` (position -> reason) names the row."""

    vectors: NDArray[np.float32]
    failed: Mapping[int, str]


OnPart = Callable[[NDArray[np.int64], IsolatedOutcome], None]


class ModelRunner:
    """Embeds on owned threads, one a replica; every method but the constructor belongs to one event loop.

    A call's texts are grouped by length into micro-batches. At most as many as the replicas take in hand,
    and `prefetch` more, are at the models' door at a time: so a thread finds the next one ready when it
    finishes one, calls that run side by side share the model micro-batch by micro-batch, and an interactive
    call waits for no more than the micro-batch that is running, and one more that a GPU was given ahead.
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
        """`open_backends`: one a replica. `microbatch_tokens`: padded tokens a call, or who finds that out,
        asked on each replica's thread. `stuck_after_seconds`: a micro-batch that takes longer will not come
        back."""
        if not open_backends:
            raise InvalidRequest("a runner needs at least one replica")
        budget_of = microbatch_tokens if callable(microbatch_tokens) else lambda _: microbatch_tokens
        self._inbox = Inbox()
        meter = meter or ModelMeter(Metrics(), "unnamed")
        self._lanes = [Lane(open_backend, budget_of, self._inbox, meter) for open_backend in open_backends]
        self._prefetch = prefetch
        self._most_at_the_door = 0
        self._stuck_after_seconds = stuck_after_seconds
        self._budget_tokens = 0
        self._closed = False
        self.stuck = False
        self._watch: asyncio.Task[None] | None = None

    @property
    def info(self) -> ModelInfo:
        """Of the loaded model: for use after `start`."""
        return self._lanes[0].loaded.result(timeout=0).info

    @property
    def microbatch_tokens(self) -> int:
        """Padded tokens that a call of the model has at most: for use after `start`."""
        return self._budget_tokens

    async def start(self) -> None:
        """Load each replica on its thread and run it once. Raises UnknownModel or ModelError."""
        for lane in self._lanes:
            lane.start()
        loaded = await asyncio.gather(*(asyncio.wrap_future(lane.loaded) for lane in self._lanes))
        self._budget_tokens = min(one.budget_tokens for one in loaded)
        self._most_at_the_door = sum(one.in_hand for one in loaded) + self._prefetch
        if math.isfinite(self._stuck_after_seconds):
            self._watch = asyncio.create_task(self._watch_threads(), name=f"watch model {self.info.name}")

    @property
    def broken(self) -> bool:
        """Of no use any more, without having been closed: a thread is stuck, or ended."""
        return self.stuck or not (self._closed or all(lane.alive for lane in self._lanes))

    async def embed(
        self,
        batch: TokenBatch,
        *,
        interactive: bool = False,
        owners: NDArray[np.int64] | None = None,
        on_part: OnPart | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> EmbedOutcome:
        """Embed every text; those that fail alone are named in the outcome, their neighbours succeed.

        `interactive` goes before bulk work at the next micro-batch. `on_part` is called on the event loop
        with positions and outcome of each micro-batch, in an order in which the texts' `owners`, int64 (n,),
        are done early. `should_stop` is asked on the event
        loop before each micro-batch is handed over; once it is true the call raises LeaseLost, its
        vectors being nobody's. A cancelled call likewise leaves the model after the running micro-batch.

        Raises Transient when the runner is closed or the model is not to be had, after `on_part` was told
        what was under way and succeeded: a server may want to be paid for it. Raises ModelFailure when the
        model does not come back or the memory does not hold a single text, and InvalidRequest for a batch
        whose arrays disagree.
        """
        _require_consistent(batch)
        groups = deque(self._plan(batch.lengths, owners))
        vectors = np.zeros((len(batch), self.info.dim), dtype=np.float32)
        failed: dict[int, str] = {}
        trouble: Transient | None = None
        at_the_door: deque[tuple[NDArray[np.int64], asyncio.Future[IsolatedOutcome]]] = deque()
        try:
            while groups or at_the_door:
                if groups and len(at_the_door) < self._most_at_the_door:
                    self._require_wanted(should_stop)
                    positions = groups.popleft()
                    outcome = self._submit(batch.take(positions), interactive=interactive)
                    at_the_door.append((positions, outcome))
                    continue
                positions, outcome = at_the_door.popleft()
                try:
                    result = await outcome
                except Transient as exc:  # no more is begun; what is under way may succeed
                    trouble = trouble or exc
                    groups.clear()
                    continue
                vectors[positions] = result.vectors
                failed.update((int(positions[row]), reason) for row, reason in result.failed.items())
                if on_part is not None:
                    on_part(positions, result)
                if result.ran_out_of_memory:
                    self._lower_budget(batch.lengths[positions])
        finally:
            for _, outcome in at_the_door:
                outcome.cancel()
        if trouble is not None:
            raise trouble
        return EmbedOutcome(vectors, failed)

    async def close(self) -> None:
        """Finish the running micro-batches, fail the waiting ones and those that wait for a server with
        Transient, join the threads (but not stuck ones: they are left behind).

        May be called again, and before `start` has returned.
        """
        self._closed = True
        fail_waiting(self._inbox)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        for lane in self._lanes:
            lane.interrupt()
        for lane in self._lanes:
            if lane.started and not (self.stuck and lane.running):
                await asyncio.to_thread(lane.join)

    def _plan(self, lengths: NDArray[np.int64], owners: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
        plan = plan_batches if self.info.pads else plan_in_order
        most = self.info.texts_per_call or MOST_TEXTS
        groups = plan(lengths, budget_tokens=self._budget_tokens, max_texts=most)
        return groups if owners is None else soonest_first(groups, owners)

    def _submit(self, batch: TokenBatch, *, interactive: bool) -> asyncio.Future[IsolatedOutcome]:
        microbatch = Microbatch(batch)
        if not self._inbox.put(microbatch, interactive=interactive):
            raise closed()
        return asyncio.wrap_future(microbatch.outcome)

    def _require_wanted(self, should_stop: Callable[[], bool] | None) -> None:
        if should_stop is not None and should_stop():
            raise LeaseLost(f"model {self.info.name}: stopped between micro-batches, nobody wants the rest")

    def _lower_budget(self, lengths: NDArray[np.int64]) -> None:
        """For good: a budget that once did not fit would fail, and be embedded twice, again and again."""
        halved = max(1, len(lengths) * int(lengths.max()) // 2)
        if halved < self._budget_tokens:
            self._budget_tokens = halved
            logger.warning("model {}: out of memory, micro-batches now {} tokens", self.info.name, halved)

    async def _watch_threads(self) -> None:
        while not self.stuck:
            await asyncio.sleep(self._stuck_after_seconds / 4)
            running = [lane.running for lane in self._lanes]
            late = [one for one in running if one and monotonic() - one.since > self._stuck_after_seconds]
            if late:
                self._abandon(late)

    def _abandon(self, late: Sequence[Running]) -> None:
        """A thread cannot be killed: leave it to itself, and tell all who wait for it."""
        self.stuck = True
        logger.error("model {}: did not come back from a call: left behind", self.info.name)
        failure = ModelStuck(
            f"model {self.info.name}: a call took more than {self._stuck_after_seconds:g} s "
            "(models.stuck_after_seconds): it counts as hung"
        )
        for microbatch in self._inbox.close():
            if microbatch.outcome.set_running_or_notify_cancel():
                microbatch.outcome.set_exception(failure)
        for microbatch in (each for running in late for each in running.microbatches):
            with suppress(InvalidStateError):  # it came back after all, in this very moment
                microbatch.outcome.set_exception(failure)


def _require_consistent(batch: TokenBatch) -> None:
    if int(batch.lengths.sum()) != len(batch.token_ids):
        raise InvalidRequest(
            f"token batch: lengths sum to {int(batch.lengths.sum())}, there are {len(batch.token_ids)} ids"
        )
    if batch.texts is not None and len(batch.texts) != len(batch):
        raise InvalidRequest(f"token batch: {len(batch.texts)} strings for {len(batch)} texts")
