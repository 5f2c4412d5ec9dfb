"""So much a minute: a token bucket."""

from __future__ import annotations

# Who has waited as long as was said must not find a rest too small to wait for.
_ROUNDING = 1e-6


class TokenBucket:
    """Lets `per_minute` through, and a second's worth of it (at least one) at once.

    What is dearer than the bucket can hold passes when it is full and is paid off afterwards, so the rate
    holds in the long run whatever single ones cost. Pure: `now` is a monotonic clock, in seconds.
    """

    def __init__(self, per_minute: float) -> None:
        self._per_second = per_minute / 60
        self._capacity = max(1.0, self._per_second)
        self._level = self._capacity
        self._seen = 0.0

    def wait_seconds(self, amount: float, now: float) -> float:
        """How long until so much may pass, if nobody else takes any; 0: now."""
        lacking = min(amount, self._capacity) - self._level_at(now)
        return lacking / self._per_second if lacking > _ROUNDING else 0.0

    def take(self, amount: float, now: float) -> None:
        self._level = self._level_at(now) - amount
        self._seen = now

    def _level_at(self, now: float) -> float:
        return min(self._capacity, self._level + (now - self._seen) * self._per_second)
