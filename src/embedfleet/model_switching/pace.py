"""How much a backfill may do beside searches. It is pure: instants and durations go in, a share comes out.

A backfill that gives way works by turns: it begins some documents, waits until they are done, and rests.
Searches that met no turn tell what a search takes without a backfill. They are of the same minutes as the
others, so that other load on the host, which slows both, is not taken for an effect of the backfill.

The share is raised and lowered by factors. It is never 0, so every backfill ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from embedfleet.metrics.search_times import SearchTime

LEAST_SHARE = 0.02
"""However slow searches are, a backfill has this share."""

_FIRST_SHARE = 0.1
# A host with no search for this long has none to give way to.
_IDLE_SECONDS = 10.0
# The searches that met no turn, of which the latest count; those of before the backfill are among them.
_MOST_ALONE = 400
# Of more searches than this ago, how long one took tells of another time: other load, other documents.
_RECENT = 600
# The latest searches of all. A p95 of fewer than a hundred depends on a handful of them.
_MOST_LATEST = 150
# A decision needs this many new searches, so that most that it judges by are of the share it decided last.
_NEW_PER_DECISION = 40
_FEWEST_ALONE = 20
# The share is lowered above this part of the allowed increase, and raised below that one. So it comes to rest
# between both, and seldom passes the limit itself.
_LOWER_ABOVE, _RAISE_BELOW = 0.8, 0.5
_LOWER_BY, _RAISE_BY = 0.7, 1.25

_PERCENTILE = 0.95


class SearchPace:
    """Sets the share of a backfill by what searches take with it and without it.

    All instants are of one clock, and none is earlier than that of the call before.
    """

    def __init__(self, max_slowdown: float) -> None:
        """`max_slowdown`: how many times as long 95% of the searches may take. 0: there is no limit."""
        self._max_slowdown = max_slowdown
        self._share = _FIRST_SHARE
        self._heard = 0
        # Each with the number of the search.
        self._alone: deque[tuple[int, float]] = deque(maxlen=_MOST_ALONE)
        self._latest: deque[float] = deque(maxlen=_MOST_LATEST)
        self._new = 0
        self._last_search = float("-inf")
        # The turns that a search that is yet to be heard of may have met: (begin, end). One that goes on has
        # no end.
        self._turns: deque[tuple[float, float]] = deque(maxlen=100)
        self.slowdown: float | None = None
        """p95 of the latest searches, divided by p95 without the backfill; None: not known yet."""

    def turn_begins(self, now: float) -> None:
        """Note that the backfill works from now on. It may be told again while it works."""
        if not self._turns or self._turns[-1][1] <= now:
            self._turns.append((now, float("inf")))

    def turn_ends(self, now: float) -> None:
        if self._turns and self._turns[-1][1] > now:
            self._turns[-1] = (self._turns[-1][0], now)

    def begin_again(self) -> None:
        """Go on with the first share at most, as other documents are embedded with another model now.

        While hardly any was embedded, searches were quick, which has raised the share.
        """
        self._share = min(self._share, _FIRST_SHARE)
        self._latest.clear()
        self._new = 0

    def hear(self, searches: Iterable[SearchTime]) -> None:
        """Count searches that have ended, and decide about the share when there are enough."""
        for search in searches:
            self._heard += 1
            self._last_search = max(self._last_search, search.ended)
            met = any(begin < search.ended and search.began < end for begin, end in self._turns)
            if not met:
                self._alone.append((self._heard, search.seconds))
            if self._turns:
                self._latest.append(search.seconds)
                self._new += 1
        while self._alone and self._alone[0][0] <= self._heard - _RECENT:
            self._alone.popleft()
        if self._new >= _NEW_PER_DECISION:
            self._decide()

    def share(self, now: float) -> float | None:
        """Return the share, from `LEAST_SHARE` to 1. None: nothing need be given way to."""
        if not self._max_slowdown or now - self._last_search > _IDLE_SECONDS:
            return None
        return self._share

    def _decide(self) -> None:
        self._new = 0
        if len(self._alone) < _FEWEST_ALONE:
            # What a search takes without the backfill is not known. Longer rests have more that meet no turn.
            self.slowdown = None
            self._share = max(LEAST_SHARE, self._share * _LOWER_BY)
            return
        self.slowdown = _p95(self._latest) / max(_p95([seconds for _, seconds in self._alone]), 1e-9)
        used = (self.slowdown - 1) / max(self._max_slowdown - 1, 1e-9)
        if used > _LOWER_ABOVE:
            self._share = max(LEAST_SHARE, self._share * _LOWER_BY)
        elif used < _RAISE_BELOW:
            self._share = min(1.0, self._share * _RAISE_BY)


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(_PERCENTILE * len(seconds)))]
