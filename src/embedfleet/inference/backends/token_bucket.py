"""A rate limit a minute: a token bucket."""

from __future__ import annotations

# A caller that waited exactly as long as it was told may find that rounding leaves a tiny amount lacking:
# less than this counts as nothing.
_ROUNDING = 1e-6


class TokenBucket:
    """Lets `per_minute` pass each minute, and at most a second's worth (but at least 1) at once.

    An amount that is larger than the bucket passes when the bucket is full and is paid off afterwards, so
    the rate holds in the long run whatever single amounts are. Pure: `now` is a monotonic clock, in seconds.
    """

    def __init__(self, per_minute: float) -> None:
        self._per_second = per_minute / 60
        self._capacity = max(1.0, self._per_second)
        self._level = self._capacity
        self._level_at_seconds = 0.0

    def wait_seconds(self, amount: float, now: float) -> float:
        """Seconds until `amount` may pass if nothing else is taken before; 0: it may pass now."""
        lacking = min(amount, self._capacity) - self._level_at(now)
        return lacking / self._per_second if lacking > _ROUNDING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Let `amount` pass. The level may become negative: that is what has to be paid off."""
        self._level = self._level_at(now) - amount
        self._level_at_seconds = now

    def _level_at(self, now: float) -> float:
        return min(self._capacity, self._level + (now - self._level_at_seconds) * self._per_second)
