"""A model and the one thread it lives on."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from embedfleet.errors import EmbedfleetError, InvalidRequest, LeaseLost, ModelError, ModelStuck, Transient
from embedfleet.inference.backend import BackendFactory, EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.batching import plan_batches
from embedfleet.inference.inbox import Inbox, Microbatch
from embedfleet.inference.isolation import IsolatedOutcome, embed_isolated
from embedfleet.inference.meter import ModelMeter
from embedfleet.metrics import Metrics


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """`vectors`: float32 (n, dim), zero where `failed` (position -> reason) names the row."""

    vectors: NDArray[np.float32]
    failed: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Running:
    """What the model is busy with, and since when (monotonic seconds)."""

    microbatch: Microbatch
    since: float


class ModelRunner:
    """Embeds on an owned thread; every method but the constructor belongs to one event loop.

    A call's texts are grouped by length into micro-batches. At most 1 + `prefetch` of them are at the
    model's door at a time, so the thread finds the next one ready when it finishes one, calls that run
    side by side share the model micro-batch by micro-batch, and an interactive call waits for no more
    than the micro-batch that is running.
    """

    def __init__(
        self,
        open_backend: BackendFactory,
        *,
        microbatch_tokens: int,
        prefetch: int = 1,
        meter: ModelMeter | None = None,
        stuck_after_seconds: float = math.inf,
    ) -> None:
        """`stuck_after_seconds`: a micro-batch that takes longer will not come back."""
        self._open_backend = open_backend
        self._meter = meter or ModelMeter(Metrics(), "unnamed")
        self._budget_tokens = microbatch_tokens
        self._prefetch = prefetch
        self._stuck_after_seconds = stuck_after_seconds
        self._running: Running | None = None
        self._closed = False
        self.stuck = False
        self._watch: asyncio.Task[None] | None = None
        self._inbox = Inbox()
        self._loaded: Future[ModelInfo] = Future()
        # A daemon: a process that is going down must not hang on a model nobody closed.
        self._thread = threading.Thread(target=self._live, name="model", daemon=True)

    @property
    def info(self) -> ModelInfo:
        """Of the loaded model: for use after `start`."""
        return self._loaded.result(timeout=0)

    async def start(self) -> None:
        """Load the model on its thread and run it once. Raises UnknownModel or ModelError."""
        self._thread.start()
        await asyncio.wrap_future(self._loaded)
        if math.isfinite(self._stuck_after_seconds):
            self._watch = asyncio.create_task(self._watch_thread(), name=f"watch model {self.info.name}")

    @property
    def broken(self) -> bool:
        """Of no use any more, without having been closed: its thread is stuck, or ended."""
        return self.stuck or not (self._closed or self._thread.is_alive())

    async def embed(
        self,
        batch: TokenBatch,
        *,
        interactive: bool = False,
        should_stop: Callable[[], bool] | None = None,
    ) -> EmbedOutcome:
        """Embed every text; those that fail alone are named in the outcome, their neighbours succeed.

        `interactive` goes before bulk work at the next micro-batch. `should_stop` is asked on the event
        loop before each micro-batch is handed over; once it is true the call raises LeaseLost, its
        vectors being nobody's. A cancelled call likewise leaves the model after the running micro-batch.

        Raises Transient when the runner is closed, ModelFailure when the model does not come back or the
        memory does not hold a single text, and InvalidRequest for a batch whose arrays disagree.
        """
        _require_consistent(batch)
        groups = deque(plan_batches(batch.lengths, budget_tokens=self._budget_tokens))
        vectors = np.zeros((len(batch), self.info.dim), dtype=np.float32)
        failed: dict[int, str] = {}
        at_the_door: deque[tuple[NDArray[np.int64], asyncio.Future[IsolatedOutcome]]] = deque()
        try:
            while groups or at_the_door:
                if groups and len(at_the_door) <= self._prefetch:
                    self._require_wanted(should_stop)
                    positions = groups.popleft()
                    outcome = self._submit(batch.take(positions), interactive=interactive)
                    at_the_door.append((positions, outcome))
                    continue
                positions, outcome = at_the_door[0]
                result = await outcome
                at_the_door.popleft()
                vectors[positions] = result.vectors
                failed.update((int(positions[row]), reason) for row, reason in result.failed.items())
                if result.ran_out_of_memory:
                    self._lower_budget(batch.lengths[positions])
        finally:
            for _, outcome in at_the_door:
                outcome.cancel()
        return EmbedOutcome(vectors, failed)

    async def close(self) -> None:
        """Finish the running micro-batch, fail the waiting ones with Transient, join the thread (but not a
        stuck one: it is left behind).

        May be called again, and before `start` has returned.
        """
        self._closed = True
        self._fail_waiting()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._thread.ident is not None and not self.stuck:
            await asyncio.to_thread(self._thread.join)

    # --- on the event loop --------------------------------------------------------------------

    def _submit(self, batch: TokenBatch, *, interactive: bool) -> asyncio.Future[IsolatedOutcome]:
        microbatch = Microbatch(batch)
        if not self._inbox.put(microbatch, interactive=interactive):
            raise _closed()
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

    async def _watch_thread(self) -> None:
        while not self.stuck:
            await asyncio.sleep(self._stuck_after_seconds / 4)
            running = self._running
            if running is not None and monotonic() - running.since > self._stuck_after_seconds:
                self._abandon(running)

    def _abandon(self, running: Running) -> None:
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
        with suppress(InvalidStateError):  # it came back after all, in this very moment
            running.microbatch.outcome.set_exception(failure)

    # --- on the model's thread ----------------------------------------------------------------

    def _live(self) -> None:
        if not self._loaded.set_running_or_notify_cancel():  # from here on it cannot be cancelled
            return
        try:
            backend = self._load()
        except EmbedfleetError as exc:
            self._loaded.set_exception(exc)
            return
        try:
            self._loaded.set_result(backend.info)
            while (microbatch := self._next()) is not None:
                self._running = Running(microbatch, monotonic())
                with self._meter.running(microbatch.batch), suppress(InvalidStateError):  # given up meanwhile
                    _serve(backend, microbatch)
                self._running = None
        finally:
            self._fail_waiting()  # whatever ended the loop, nobody is left waiting
            backend.close()

    def _next(self) -> Microbatch | None:
        with self._meter.waiting():
            return self._inbox.take()

    def _load(self) -> EmbeddingBackend:
        try:
            backend = self._open_backend()
            try:
                _warm_up(backend)
            except BaseException:
                backend.close()
                raise
        except EmbedfleetError:
            raise
        except BaseException as exc:  # `start` is waiting for it, whatever it is
            raise ModelError(f"the model cannot be loaded ({type(exc).__name__}: {exc})") from exc
        return backend

    def _fail_waiting(self) -> None:
        for microbatch in self._inbox.close():
            if microbatch.outcome.set_running_or_notify_cancel():
                microbatch.outcome.set_exception(_closed())


def _warm_up(backend: EmbeddingBackend) -> None:
    """The first run sets up threads and buffers; a query should not pay for that."""
    tokens = min(8, backend.info.max_tokens)
    backend.embed_tokens(TokenBatch(np.zeros(tokens, dtype=np.uint32), np.array([tokens])))


def _serve(backend: EmbeddingBackend, microbatch: Microbatch) -> None:
    """Fulfil the promise of one micro-batch, in every case; skip it if its caller has gone."""
    if not microbatch.outcome.set_running_or_notify_cancel():
        return
    try:
        microbatch.outcome.set_result(embed_isolated(backend, microbatch.batch))
    except InvalidStateError:
        raise
    except Exception as exc:  # noqa: BLE001  it belongs to the caller; the thread lives on
        microbatch.outcome.set_exception(exc)
    except BaseException:  # SystemExit or the like: it would end the caller's event loop, too
        microbatch.outcome.set_exception(_closed())
        raise


def _require_consistent(batch: TokenBatch) -> None:
    if int(batch.lengths.sum()) != len(batch.token_ids):
        raise InvalidRequest(
            f"token batch: lengths sum to {int(batch.lengths.sum())}, there are {len(batch.token_ids)} ids"
        )


def _closed() -> Transient:
    return Transient("the model is being closed: try again on another worker")
