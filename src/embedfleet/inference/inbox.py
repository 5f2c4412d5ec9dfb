"""The queue of micro-batches between the event loop and the threads of a model."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.isolation import IsolatedOutcome

# So bulk work waits for about five seconds of queries at most: a calibration keeps a call below 0.6 s.
INTERACTIVE_BURST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Microbatch:
    """The texts of one model call, and the future of its outcome."""

    batch: TokenBatch
    outcome: Future[IsolatedOutcome] = field(default_factory=Future)


class Inbox:
    """Micro-batches in order of arrival, interactive before bulk; thread-safe.

    While bulk work waits, at most `INTERACTIVE_BURST` interactive micro-batches are taken in a row, then one
    of bulk: queries may delay ingestion but not stop it. The inbox has no size limit of its own: each writer
    has only a few micro-batches in it at a time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards every field below
        self._interactive: deque[Microbatch] = deque()
        self._bulk: deque[Microbatch] = deque()
        self._interactive_in_a_row = 0  # taken while bulk work waited
        self._closed = False

    def put(self, microbatch: Microbatch, *, interactive: bool) -> bool:
        """Add it. Returns False, and adds nothing, once the inbox is closed."""
        # The look at `_closed` and the append are one step: a micro-batch that was added after `close` had
        # emptied the queues would never have an outcome.
        with self._changed:
            if self._closed:
                return False
            (self._interactive if interactive else self._bulk).append(microbatch)
            self._changed.notify()  # one is enough: any replica can take it
            return True

    def take(self) -> Microbatch | None:
        """Wait for the next micro-batch and take it; None once the inbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._interactive or self._bulk)
            return self._next()

    def take_waiting(self) -> Microbatch | None:
        """Take the next micro-batch without waiting; None if there is none."""
        with self._changed:
            return self._next()

    def _next(self) -> Microbatch | None:
        bulk_is_due = bool(self._bulk) and self._interactive_in_a_row >= INTERACTIVE_BURST
        if self._interactive and not bulk_is_due:
            self._interactive_in_a_row = self._interactive_in_a_row + 1 if self._bulk else 0
            return self._interactive.popleft()
        self._interactive_in_a_row = 0
        return self._bulk.popleft() if self._bulk else None

    def close(self) -> list[Microbatch]:
        """Accept no more, wake all takers, and return the micro-batches that waited: the caller must give
        them an outcome."""
        with self._changed:
            self._closed = True
            waiting = [*self._interactive, *self._bulk]
            self._interactive.clear()
            self._bulk.clear()
            self._changed.notify_all()
            return waiting
