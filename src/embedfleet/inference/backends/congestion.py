"""How many requests a server gets at once, learnt from its answers that say it has too many."""

from __future__ import annotations

import random

from embedfleet.retry import BackOff

# The pause after a refusal that names no time: up to the first, doubling up to the longest.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
# A server that names a longer pause is asked after five minutes nevertheless: its answer may be a mistake,
# which would otherwise stop the work for hours without a sign.
_LONGEST_GRANTED_SECONDS = 300.0


class Congestion:
    """After a refusal, a pause for all requests; then half as many at once, and one more a round trip.

    Additive increase, multiplicative decrease (Chiu and Jain 1989): one refusal costs a moment and not the
    rate of hours, and several clients of one server come to share it. Pure: `now` is a monotonic clock, in
    seconds. Requests are numbered in the order they were sent, so that a burst of refusals counts once.
    """

    def __init__(self, most_at_once: int, rng: random.Random) -> None:
        self._most_at_once = most_at_once
        self._window = float(most_at_once)
        self._paused_until = 0.0
        self._first_since_refusal = 0
        self._pauses = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, rng)

    @property
    def window(self) -> int:
        """Requests that may be under way at once."""
        return int(self._window)

    def pause_seconds(self, now: float) -> float:
        """Seconds until a request may go out; 0: it may go out now."""
        return max(0.0, self._paused_until - now)

    def answered(self, number: int) -> None:
        """Request `number` was served."""
        # An answer to a request from before the last refusal does not end the row of refusals.
        if number >= self._first_since_refusal:
            self._pauses.reset()
        self._window = min(self._most_at_once, self._window + 1 / self._window)

    def refused(self, number: int, latest: int, now: float, retry_after_seconds: float | None) -> None:
        """Request `number` was one too many; `latest` is the number of the last request sent."""
        if number >= self._first_since_refusal:
            self._window = max(1.0, self._window / 2)
            # Requests up to `latest` were sent before this refusal was known: theirs are of the same burst.
            self._first_since_refusal = latest + 1
            self._pauses.add_failure()
        elif retry_after_seconds is None:
            return
        pause = min(retry_after_seconds or self._pauses.pause_seconds(), _LONGEST_GRANTED_SECONDS)
        self._paused_until = max(self._paused_until, now + pause)
