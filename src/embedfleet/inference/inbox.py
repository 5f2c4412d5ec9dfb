"""The channel between the event loop and a model's thread."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.isolation import IsolatedOutcome

INTERACTIVE_BURST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Microbatch:
    """One model call to be, and the promise of its outcome."""

    batch: TokenBatch
    outcome: Future[IsolatedOutcome] = field(default_factory=Future)


class Inbox:
    """Micro-batches in order of arrival, interactive before bulk.

    Of `INTERACTIVE_BURST` + 1 taken in a row while bulk work waits, at least one is bulk: queries may
    delay ingestion, not stop it. Its size is bounded by its writers: each waits for its earlier
    micro-batches before it puts more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._interactive: deque[Microbatch] = deque()
        self._bulk: deque[Microbatch] = deque()
        self._burst = 0
        self._closed = False

    def put(self, microbatch: Microbatch, *, interactive: bool) -> bool:
        """False, and nothing is kept, once the inbox is closed."""
        with self._changed:
            if self._closed:
                return False
            (self._interactive if interactive else self._bulk).append(microbatch)
            self._changed.notify()
            return True

    def take(self) -> Microbatch | None:
        """Wait for the next micro-batch; None once the inbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._interactive or self._bulk)
            return self._next()

    def take_waiting(self) -> Microbatch | None:
        """The next micro-batch, if one is here; None also once the inbox is closed."""
        with self._changed:
            return self._next()

    def _next(self) -> Microbatch | None:
        if self._interactive and not (self._bulk and self._burst >= INTERACTIVE_BURST):
            self._burst = self._burst + 1 if self._bulk else 0
            return self._interactive.popleft()
        self._burst = 0
        return self._bulk.popleft() if self._bulk else None

    def close(self) -> list[Microbatch]:
        """Refuse more, wake the taker, and hand over what was waiting, to be failed by the caller."""
        with self._changed:
            self._closed = True
            waiting = [*self._interactive, *self._bulk]
            self._interactive.clear()
            self._bulk.clear()
            self._changed.notify_all()
            return waiting
