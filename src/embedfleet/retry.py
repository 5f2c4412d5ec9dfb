"""Computes the pause before the next try. It is arithmetic only: it reads no clock and never sleeps."""

from __future__ import annotations

import random
from dataclasses import dataclass

from embedfleet.errors import InvalidRequest

_MOST_DOUBLINGS = 60
"""Enough to reach any cap from a base of a nanosecond. Without this bound, the power would overflow."""


def retry_delay_seconds(attempt: int, *, base: float, cap: float, rng: random.Random) -> float:
    """Return a pause by exponential back-off with full jitter, in seconds.

    It is uniform in [0, min(cap, base x 2^(attempt - 1))].

    `attempt` is the number of the failed delivery, from 1; `base` and `cap` are in seconds. Full jitter
    keeps tasks that failed together from coming back together. It gave the least total work in M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return rng.uniform(0.0, _doubled_seconds(attempt, base=base, cap=cap))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failed task waits. Raises InvalidRequest unless 0 < `base_seconds` <= `cap_seconds`."""

    base_seconds: float = 1.0
    cap_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.base_seconds <= self.cap_seconds:
            raise InvalidRequest(
                f"retry policy: base_seconds is {self.base_seconds}, cap_seconds {self.cap_seconds}; "
                "the base must be more than 0 and at most the cap"
            )

    def delay_seconds(self, attempt: int, rng: random.Random) -> float:
        """Return the seconds that a task waits after its delivery number `attempt` failed."""
        return retry_delay_seconds(attempt, base=self.base_seconds, cap=self.cap_seconds, rng=rng)


class BackOff:
    """Pauses that double: `first_seconds`, then twice as long after each failure, at most `longest_seconds`.

    An object counts the failures in a row of one operation; call `reset` when the operation succeeds. With an
    `rng`, every pause has full jitter, as in `retry_delay_seconds`; without one, it is exact.
    """

    def __init__(
        self, first_seconds: float, longest_seconds: float, rng: random.Random | None = None
    ) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._rng = rng
        self.failures = 0

    def add_failure(self) -> None:
        """Count one more failure in a row."""
        self.failures += 1

    def pause_seconds(self) -> float:
        """Return the pause after the failures so far; 0 without a failure. With an `rng`, each call draws."""
        if not self.failures:
            return 0.0
        ceiling = _doubled_seconds(self.failures, base=self._first_seconds, cap=self._longest_seconds)
        return ceiling if self._rng is None else self._rng.uniform(0.0, ceiling)

    def next_seconds(self) -> float:
        """Count one more failure in a row and return the pause after it."""
        self.add_failure()
        return self.pause_seconds()

    def reset(self) -> None:
        """Forget the failures: the next one counts as the first."""
        self.failures = 0


def _doubled_seconds(failures: int, *, base: float, cap: float) -> float:
    """Return `base`, doubled with every failure after the first, but at most `cap`."""
    return min(cap, base * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
