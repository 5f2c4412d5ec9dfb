"""When to try a failed task again, and when to give it up: arithmetic only."""

from __future__ import annotations

import random
from dataclasses import dataclass

from embedfleet.errors import InvalidRequest

_MOST_DOUBLINGS = 60
"""Enough to reach any cap from any base of a nanosecond or more; bounded, or the power overflows."""


def retry_delay_seconds(attempt: int, *, base: float, cap: float, rng: random.Random) -> float:
    """Exponential back-off with full jitter: uniform in [0, min(cap, base x 2^(attempt - 1))] seconds.

    `attempt` is the delivery that failed (first: 1); `base` and `cap` are in seconds. Full jitter because
    tasks that failed together must not come back together: M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015, found it the least total work.
    """
    ceiling: float = min(cap, base * 2 ** min(attempt - 1, _MOST_DOUBLINGS))
    return rng.uniform(0.0, ceiling)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failed task waits. InvalidRequest unless 0 < `base_seconds` <= `cap_seconds`."""

    base_seconds: float = 1.0
    cap_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.base_seconds <= self.cap_seconds:
            raise InvalidRequest(
                f"retry policy: base_seconds is {self.base_seconds}, cap_seconds {self.cap_seconds}; "
                "the base must be more than 0 and at most the cap"
            )

    def delay_seconds(self, attempt: int, rng: random.Random) -> float:
        """How long a task whose delivery `attempt` failed waits."""
        return retry_delay_seconds(attempt, base=self.base_seconds, cap=self.cap_seconds, rng=rng)
