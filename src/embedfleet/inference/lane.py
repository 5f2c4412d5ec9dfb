"""One replica of a model and the thread it lives on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import numpy as np

from embedfleet.errors import EmbedfleetError, ModelError, Transient
from embedfleet.inference.backend import (
    BackendFactory,
    EmbeddingBackend,
    ModelInfo,
    TokenBatch,
    interrupt,
)
from embedfleet.inference.inbox import Inbox, Microbatch
from embedfleet.inference.isolation import embed_isolated
from embedfleet.inference.meter import ModelMeter


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready; a call of it should have about `budget_tokens`, padding counted."""

    info: ModelInfo
    budget_tokens: int


@dataclass(frozen=True, slots=True)
class Running:
    """What the model is busy with, and since when (monotonic seconds)."""

    microbatch: Microbatch
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
        self._backend = backend
        try:
            self.loaded.set_result(Loaded(backend.info, budget_tokens))
            while (microbatch := self._next()) is not None:
                self.running = Running(microbatch, monotonic())
                run = self._meter.running(microbatch.batch, pads=backend.info.pads)
                with run, suppress(InvalidStateError):  # given up meanwhile
                    _serve(backend, microbatch)
                self.running = None
        finally:
            fail_waiting(self._inbox)  # whatever ended the loop, nobody is left waiting
            backend.close()

    def _next(self) -> Microbatch | None:
        with self._meter.waiting():
            return self._inbox.take()

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
        microbatch.outcome.set_exception(closed())
        raise
