"""The order in which waiting calls of the one thread go: searches before writes, within bounds.

A write of many rows takes a tenth of a second, and several may wait. A search that waited for all of them
would take ten times as long as alone. So it waits only for the call that is under way, and while searches
come, a large write is several calls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any

# While searches always wait, every ninth call is another one, so that writes go on too.
_MOST_URGENT_IN_TURN = 8

# A search makes others likely for this long.
_SEARCHES_COME_SECONDS = 1.0
# With 12,000 rows of 128 dimensions there, a write of 1 row took 7 ms, of 16 about 20, and of 100 60.
_ROWS_BESIDE_SEARCHES = 16


class CallOrder:
    """Calls that wait, each with the future of its result. Any thread may add one; one thread takes them."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._urgent: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._others: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._urgent_in_turn = 0
        self._last_urgent = float("-inf")

    def add(self, call: Callable[[], Any], *, urgent: bool) -> Future[Any]:
        """Add a call. Its future is cancelled, or gets its result or its error when it was taken."""
        future: Future[Any] = Future()
        with self._lock:
            if urgent:
                self._last_urgent = self._now()
            (self._urgent if urgent else self._others).append((call, future))
        return future

    def rows_of_a_write(self, rows: int) -> int:
        """Return how many of `rows` rows the next call may write: few while searches come, which wait for it.

        Small writes take twice the time of a large one, so it is all of them while none come.
        """
        searches_come = self._now() - self._last_urgent < _SEARCHES_COME_SECONDS
        return min(rows, _ROWS_BESIDE_SEARCHES) if searches_come else rows

    def take(self) -> None:
        """Do the call that goes next: an urgent one, unless others have waited for eight of them.

        Of two alike, the first goes first. A call that was cancelled is left out. There must be as many calls
        of this as of `add`.
        """
        call, future = self._next()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as exc:  # noqa: BLE001 - its caller, who waits for it, gets it
            future.set_exception(exc)
        else:
            future.set_result(result)

    def _next(self) -> tuple[Callable[[], Any], Future[Any]]:
        with self._lock:
            turn_of_others = self._others and self._urgent_in_turn >= _MOST_URGENT_IN_TURN
            if self._urgent and not turn_of_others:
                self._urgent_in_turn += 1
                return self._urgent.popleft()
            self._urgent_in_turn = 0
            return self._others.popleft()
