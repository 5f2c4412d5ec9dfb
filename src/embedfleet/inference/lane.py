"""One replica of a model and the thread it lives on."""

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
    """A model that is ready; a call of it should have about `budget_tokens`, padding counted. It has up to
    `in_hand` micro-batches at a time."""

    info: ModelInfo
    budget_tokens: int
    in_hand: int


@dataclass(frozen=True, slots=True)
class Running:
    """What the model is busy with, the first since `since` (monotonic seconds), the others after it."""

    microbatches: tuple[Microbatch, ...]
    since: float


class Lane:
    """Takes micro-batches from an inbox, which it may share with other replicas, until that is closed."""

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
        self.running: Running | None = None
        self._backend: EmbeddingBackend | None = None
        # A daemon: a process that is going down must not hang on a model nobody closed.
        self._thread = threading.Thread(target=self._live, name="model", daemon=True)

    def start(self) -> None:
        """`loaded` gets the outcome: a ModelError or UnknownModel if it is none."""
        self._thread.start()

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def interrupt(self) -> None:
        """A backend that waits for a server gives up. Close the inbox first, so that it is asked no more."""
        if self._backend is not None:
            interrupt(self._backend)

    def join(self) -> None:
        """Wait for the end of the thread; blocking."""
        self._thread.join()

    def _live(self) -> None:
        if not self.loaded.set_running_or_notify_cancel():  # from here on it cannot be cancelled
            return
        try:
            backend, budget_tokens = self._load()
        except EmbedfleetError as exc:
            self.loaded.set_exception(exc)
            return
        launch = backend.start if isinstance(backend, LaunchingBackend) else None
        self._backend = backend
        try:
            self.loaded.set_result(Loaded(backend.info, budget_tokens, in_hand=2 if launch else 1))
            self._work(partial(Call, backend, launch), launching=launch is not None, pads=backend.info.pads)
        finally:
            fail_waiting(self._inbox)  # whatever ended the loop, nobody is left waiting
            if self.running is not None:
                _fail(self.running.microbatches)
            backend.close()

    def _work(self, begin: Callable[[Microbatch], Call], *, launching: bool, pads: bool) -> None:
        """A model that can is given the next micro-batch while it is at one, so that it never stands still;
        not more than one, as queries have to wait for it, too."""
        following: Call | None = None
        while (call := following or self._next(begin)) is not None:
            self.running = Running((call.microbatch,), monotonic())
            with self._meter.running(call.microbatch.batch, pads=pads):
                call.start()
                following = self._launched(begin, self.running) if launching else None
                call.finish()

    def _next(self, begin: Callable[[Microbatch], Call]) -> Call | None:
        self.running = None
        with self._meter.waiting():
            while (microbatch := self._inbox.take()) is not None:
                if microbatch.outcome.set_running_or_notify_cancel():  # else its caller has gone
                    return begin(microbatch)
        return None

    def _launched(self, begin: Callable[[Microbatch], Call], running: Running) -> Call | None:
        while (microbatch := self._inbox.take_waiting()) is not None:
            if microbatch.outcome.set_running_or_notify_cancel():
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
        except BaseException as exc:  # somebody is waiting for it, whatever it is
            raise ModelError(f"the model cannot be loaded ({type(exc).__name__}: {exc})") from exc


def fail_waiting(inbox: Inbox) -> None:
    """Close the inbox, and tell all who wait in it to go elsewhere."""
    for microbatch in inbox.close():
        if microbatch.outcome.set_running_or_notify_cancel():
            microbatch.outcome.set_exception(closed())


def closed() -> Transient:
    return Transient("the model is being closed: try again on another worker")


def _warm_up(backend: EmbeddingBackend) -> None:
    """The first run sets up threads and buffers; a query should not pay for that."""
    if backend.info.needs_texts:  # a server is not asked before there is something to ask
        return
    tokens = min(8, backend.info.max_tokens)
    backend.embed_tokens(TokenBatch(np.zeros(tokens, dtype=np.uint32), np.array([tokens])))


class Call:
    """A micro-batch on its way through the model. Its promise is fulfilled, in every case."""

    def __init__(self, backend: EmbeddingBackend, launch: Launch | None, microbatch: Microbatch) -> None:
        self.microbatch = microbatch
        self._backend = backend
        self._launch = launch
        self._wait: Callable[[], NDArray[np.float32]] | None = None

    def start(self) -> None:
        """Does nothing the second time, nor for a model that only works while it is waited for."""
        if self._wait is None and self._launch is not None:
            try:
                self._wait = self._launch(self.microbatch.batch)
            except Exception as exc:  # noqa: BLE001  raised where the result is asked for
                self._wait = partial(_raise, exc)

    def finish(self) -> None:
        outcome = self.microbatch.outcome
        with suppress(InvalidStateError):  # given up meanwhile
            try:
                result = embed_isolated(self._backend, self.microbatch.batch, self._wait)
            except Exception as exc:  # noqa: BLE001  it belongs to the caller; the thread lives on
                outcome.set_exception(exc)
            else:
                outcome.set_result(result)


def _raise(exc: Exception) -> NDArray[np.float32]:
    raise exc


def _fail(microbatches: Iterable[Microbatch]) -> None:
    """SystemExit or the like ends the thread; passed on, it would end the callers' event loops, too."""
    for microbatch in microbatches:
        with suppress(InvalidStateError):  # it has its outcome
            microbatch.outcome.set_exception(closed())
