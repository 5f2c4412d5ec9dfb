"""One replica of a model, and the thread that runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import EmbedfleetError, ModelError, Transient
from embedfleet.inference.backend import (
    BackendFactory,
    EmbeddingBackend,
    LaunchingBackend,
    ModelInfo,
    TokenBatch,
    interrupt,
)
from embedfleet.inference.inbox import Inbox, Microbatch
from embedfleet.inference.isolation import embed_isolated
from embedfleet.inference.meter import ModelMeter

Launch = Callable[[TokenBatch], Callable[[], NDArray[np.float32]]]
"""`LaunchingBackend.start`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready. A call of it should have about `budget_tokens` tokens, padding counted; the
    replica takes up to `max_microbatches` at a time from the inbox."""

    info: ModelInfo
    budget_tokens: int
    max_microbatches: int


@dataclass(frozen=True, slots=True)
class Running:
    """The micro-batches that the model has. It began the first at `since` (monotonic seconds), and runs the
    others after it."""

    microbatches: tuple[Microbatch, ...]
    since: float


class Replica:
    """Takes micro-batches from an inbox, which other replicas may share, until the inbox is closed.

    Its thread loads, runs and closes the backend. No other thread calls the backend, except for `interrupt`.
    """

    def __init__(
        self,
        open_backend: BackendFactory,
        budget_of: Callable[[EmbeddingBackend], int],
        inbox: Inbox,
        meter: ModelMeter,
    ) -> None:
        self._open_backend = open_backend
        self._budget_of = budget_of
        self._inbox = inbox
        self._meter = meter
        self.loaded: Future[Loaded] = Future()
        # Written by the replica's thread only, each time as a whole new value: other threads may read it.
        self.running: Running | None = None
        self._backend: EmbeddingBackend | None = None
        # A daemon thread: a process that ends must not wait for a model that was not closed, or that hangs.
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Start the thread. `loaded` gets the outcome: a Loaded, or a ModelError or UnknownModel."""
        self._thread.start()

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def interrupt(self) -> None:
        """A backend that waits for a server stops waiting. Close the inbox first: otherwise the replica goes
        on with the next micro-batch."""
        if self._backend is not None:
            interrupt(self._backend)

    def join(self) -> None:
        """Wait for the end of the thread; blocking."""
        self._thread.join()

    def _run(self) -> None:
        # From here on `loaded` cannot be cancelled, so setting its outcome cannot fail.
        if not self.loaded.set_running_or_notify_cancel():
            return
        try:
            backend, budget_tokens = self._load()
        except EmbedfleetError as exc:
            self.loaded.set_exception(exc)
            return
        launch = backend.start if isinstance(backend, LaunchingBackend) else None
        # Before `loaded` is set: once the runner is started, `interrupt` must find the backend.
        self._backend = backend
        try:
            self.loaded.set_result(Loaded(backend.info, budget_tokens, max_microbatches=2 if launch else 1))
            self._work(partial(Call, backend, launch), launching=launch is not None, pads=backend.info.pads)
        finally:
            # The loop may end by an exception such as SystemExit. The callers must not wait for ever: first
            # close the inbox, so that no more micro-batches come, then fail those that the model has.
            fail_waiting(self._inbox)
            if self.running is not None:
                _fail(self.running.microbatches)
            backend.close()

    def _work(self, begin: Callable[[Microbatch], Call], *, launching: bool, pads: bool) -> None:
        """Run micro-batches until the inbox is closed.

        A launching backend is given the next micro-batch while its device runs one, so that the device never
        stands still. It is given one ahead and no more, because an interactive micro-batch has to wait for
        it.
        """
        following: Call | None = None
        while (call := following or self._next_call(begin)) is not None:
            self.running = Running((call.microbatch,), monotonic())
            with self._meter.running(call.microbatch.batch, pads=pads):
                call.start()
                following = self._launch_following(begin, self.running) if launching else None
                call.finish()

    def _next_call(self, begin: Callable[[Microbatch], Call]) -> Call | None:
        """Wait for a micro-batch that its caller still wants; None once the inbox is closed."""
        self.running = None
        with self._meter.waiting():
            while (microbatch := self._inbox.take()) is not None:
                # False if the caller has cancelled it: it is dropped, and the model never runs on it.
                if microbatch.outcome.set_running_or_notify_cancel():
                    return begin(microbatch)
        return None

    def _launch_following(self, begin: Callable[[Microbatch], Call], running: Running) -> Call | None:
        """Start the next micro-batch behind the running one, if one is waiting in the inbox."""
        while (microbatch := self._inbox.take_waiting()) is not None:
            if microbatch.outcome.set_running_or_notify_cancel():
                # Before its start: if the start hangs, the watch must find this micro-batch, too.
                self.running = replace(running, microbatches=(*running.microbatches, microbatch))
                call = begin(microbatch)
                call.start()
                return call
        return None

    def _load(self) -> tuple[EmbeddingBackend, int]:
        try:
            backend = self._open_backend()
            try:
                _warm_up(backend)
                return backend, self._budget_of(backend)
            except BaseException:
                backend.close()
                raise
        except EmbedfleetError:
            raise
        except BaseException as exc:  # also SystemExit: the caller waits for `loaded` and must get an outcome
            raise ModelError(f"the model cannot be loaded ({type(exc).__name__}: {exc})") from exc


def fail_waiting(inbox: Inbox) -> None:
    """Close the inbox and fail every micro-batch in it with Transient."""
    for microbatch in inbox.close():
        if microbatch.outcome.set_running_or_notify_cancel():
            microbatch.outcome.set_exception(closing_error())


def closing_error() -> Transient:
    """What a micro-batch gets that the model will not run because it is being closed."""
    return Transient("the model is being closed: try again on another worker")


def _warm_up(backend: EmbeddingBackend) -> None:
    """Run the model once. The first run sets up threads and buffers, and no query should wait for that."""
    if backend.info.needs_texts:  # a server: it is first asked when there are texts to embed
        return
    tokens = min(8, backend.info.max_tokens)
    backend.embed_tokens(TokenBatch(np.zeros(tokens, dtype=np.uint32), np.array([tokens])))


class Call:
    """One run of the model on one micro-batch, whose `outcome` is set in every case."""

    def __init__(self, backend: EmbeddingBackend, launch: Launch | None, microbatch: Microbatch) -> None:
        self.microbatch = microbatch
        self._backend = backend
        self._launch = launch
        self._wait: Callable[[], NDArray[np.float32]] | None = None

    def start(self) -> None:
        """Hand the micro-batch to a launching backend, once; other backends begin in `finish`."""
        if self._wait is None and self._launch is not None:
            try:
                self._wait = self._launch(self.microbatch.batch)
            except Exception as exc:  # noqa: BLE001  raised in `finish`, where it is isolated as any failure
                self._wait = partial(_raise, exc)

    def finish(self) -> None:
        """Wait for the vectors and set the outcome."""
        outcome = self.microbatch.outcome
        # The watch may have failed it in this moment, because it took too long: that outcome stays.
        with suppress(InvalidStateError):
            try:
                result = embed_isolated(self._backend, self.microbatch.batch, self._wait)
            except Exception as exc:  # noqa: BLE001  it is the caller's, and the thread goes on
                outcome.set_exception(exc)
            else:
                outcome.set_result(result)


def _raise(exc: Exception) -> NDArray[np.float32]:
    raise exc


def _fail(microbatches: Iterable[Microbatch]) -> None:
    """Fail them with Transient. The exception that ended the thread is not passed on: a SystemExit would end
    the callers' event loops, too."""
    for microbatch in microbatches:
        with suppress(InvalidStateError):  # it has its outcome already
            microbatch.outcome.set_exception(closing_error())
