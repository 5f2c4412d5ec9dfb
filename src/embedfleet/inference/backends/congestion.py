"""What a server is spared that says it has too many requests."""

from __future__ import annotations

import random

from embedfleet.retry import retry_delay_seconds

# A server that names no time is asked again after up to this, doubling.
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
# One that names a longer time is asked after this nevertheless: nobody else would notice a mistake.
_LONGEST_GRANTED_SECONDS = 300.0


class Congestion:
    """A pause for everybody, then half as many requests at once, growing again by one a round trip.

    Additive increase, multiplicative decrease (Chiu and Jain 1989): one refusal costs a moment, not the rate
    of hours, and several clients of one server come to share it. Pure: `now` is a monotonic clock, in
    seconds; `number` counts requests in the order they were sent, so that a burst is refused once.
    """

    def __init__(self, most_at_once: int, rng: random.Random) -> None:
        self._most = most_at_once
        self._rng = rng
        self._window = float(most_at_once)
        self._paused_until = 0.0
        self._first_since_refusal = 0
        self._refusals_in_a_row = 0

    @property
    def window(self) -> int:
        """Requests that may be under way at once."""
        return int(self._window)

    def pause_seconds(self, now: float) -> float:
        """How long nobody may ask; 0: not at all."""
        return max(0.0, self._paused_until - now)

    def answered(self, number: int) -> None:
        """The request was served."""
        if number >= self._first_since_refusal:
            self._refusals_in_a_row = 0
        self._window = min(self._most, self._window + 1 / self._window)

    def refused(self, number: int, latest: int, now: float, retry_after_seconds: float | None) -> None:
        """The request was one too many; `latest` is the number of the last one sent."""
        if number >= self._first_since_refusal:
            self._window = max(1.0, self._window / 2)
            self._first_since_refusal = latest + 1
            self._refusals_in_a_row += 1
        elif retry_after_seconds is None:
            return
        pause = min(retry_after_seconds or self._back_off_seconds(), _LONGEST_GRANTED_SECONDS)
        self._paused_until = max(self._paused_until, now + pause)

    def _back_off_seconds(self) -> float:
        return retry_delay_seconds(
            self._refusals_in_a_row, base=_FIRST_PAUSE_SECONDS, cap=_LONGEST_PAUSE_SECONDS, rng=self._rng
        )
