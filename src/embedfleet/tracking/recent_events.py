"""The newest events of a process's watch, for all listeners: none of them reads an event of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from embedfleet.queue_schemas import JobEvent
from embedfleet.records.scope import Scope

# About 10 MB. A listener that is further behind reads from the database.
_MOST_KEPT = 10_000


class RecentEvents:
    """All events with positions above `start`, up to and including `end`. It grows at the end."""

    def __init__(self, position: int) -> None:
        """Begin empty, after this position."""
        self.start = position
        self.end = position
        self._events: list[JobEvent] = []

    def add(self, events: Sequence[JobEvent]) -> None:
        """Add the events of all tenants that follow `end`, in order, and forget the oldest of too many."""
        if not events:
            return
        self._events += events
        self.end = events[-1].position
        if len(self._events) > 2 * _MOST_KEPT:
            self.start = self._events[-_MOST_KEPT - 1].position
            del self._events[:-_MOST_KEPT]

    def after(self, scope: Scope, position: int, limit: int) -> tuple[list[JobEvent], int] | None:
        """Return up to `limit` events within the scope above the position, and the position that was reached.

        Returns None if events above the position were forgotten.
        """
        if position < self.start:
            return None
        first = bisect_right(self._events, position, key=lambda event: event.position)
        within = (event for event in islice(self._events, first, None) if scope.holds(event.tenant))
        found = list(islice(within, limit))
        # A listener may have read on from the database. It must not go back, or it hears events twice.
        return found, found[-1].position if len(found) == limit else max(self.end, position)
