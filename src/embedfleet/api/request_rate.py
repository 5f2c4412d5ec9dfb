"""Counts requests by the minute. It is pure: time is passed in.

A minute is the 60 seconds before a request, whenever that is. So no minute ever sees more than the limit,
however its requests are spread. They are counted by whole seconds, so a request counts for up to one second
longer than a minute.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

_MINUTE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limit stands after a request: `limit` a minute, of which `remaining` are left.

    `retry_after` is None if the request is allowed. Otherwise it is the time in seconds until the next one
    may be. After `reset_seconds` without requests all of the limit is there again.
    """

    limit: int
    remaining: int
    reset_seconds: float
    retry_after: float | None = None


class MinuteCount:
    """The requests of the last minute, of one key or one tenant."""

    def __init__(self) -> None:
        # Pairs of a second and the number of its requests, oldest first: at most 61 of them.
        self._seconds: deque[tuple[int, int]] = deque()
        self._total = 0

    def standing(self, limit: int, now: float) -> Standing:
        """Return how the limit stands before a request at `now`, and whether that one is allowed."""
        self._forget(now)
        over = self._total + 1 - limit
        return Standing(
            limit,
            max(limit - self._total, 0),
            self._seconds[-1][0] + _MINUTE_SECONDS + 1 - now if self._seconds else 0.0,
            None if over <= 0 else self._frees(over) - now,
        )

    def add(self, now: float) -> None:
        """Count a request at `now`."""
        second = math.floor(now)
        if self._seconds and self._seconds[-1][0] >= second:  # a clock may go backwards a little
            second, number = self._seconds.pop()
            self._seconds.append((second, number + 1))
        else:
            self._seconds.append((second, 1))
        self._total += 1

    def is_idle(self, now: float) -> bool:
        """Whether there was no request in the last minute."""
        self._forget(now)
        return not self._seconds

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] + _MINUTE_SECONDS + 1 <= now:
            self._total -= self._seconds.popleft()[1]

    def _frees(self, wanted: int) -> float:
        """Return when this number of the counted requests is a minute old."""
        for second, number in self._seconds:
            wanted -= number
            if wanted <= 0:
                return second + _MINUTE_SECONDS + 1
        raise AssertionError("a limit is at least 1, so no more are wanted than were counted")


class RequestCounts:
    """The requests of the last minute of all keys and tenants, in this process.

    Each process counts for itself: with several API processes, each allows the limit.
    """

    # After this many names, those without a request in the last minute are forgotten.
    _MOST_NAMES = 10_000

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], MinuteCount] = {}

    def take(self, limits: Mapping[tuple[str, str], int], now: float) -> Standing | None:
        """Count a request against all of these limits, or against none if one does not allow it.

        Returns the narrowest standing; None without limits. `limits` are by a kind and a name.
        """
        if not limits:
            return None
        counts = {name: self._counts.setdefault(name, MinuteCount()) for name in limits}
        standings = [counts[name].standing(limit, now) for name, limit in limits.items()]
        refused = [one for one in standings if one.retry_after is not None]
        if refused:
            return max(refused, key=lambda one: one.retry_after or 0.0)
        for count in counts.values():
            count.add(now)
        self._forget_idle(now)
        after = [counts[name].standing(limit, now) for name, limit in limits.items()]
        narrowest = min(after, key=lambda one: one.remaining)
        return Standing(narrowest.limit, narrowest.remaining, narrowest.reset_seconds)

    def _forget_idle(self, now: float) -> None:
        if len(self._counts) > self._MOST_NAMES:
            self._counts = {name: one for name, one in self._counts.items() if not one.is_idle(now)}
