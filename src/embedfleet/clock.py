"""The time as a dependency that is passed in, so that tests of leases and quotas need not wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Unix time in seconds."""

    def now(self) -> float: ...


def utc(seconds: float) -> datetime:
    """Return the instant of a Unix time, as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> float:
        return time.time()


class SteadyClock:
    """The wall clock as it was when this was made, and since then the time that has passed.

    The machine's clock is set when its time is corrected or a virtual machine goes on. That moves no deadline
    of this clock. Its seconds are for one process: two such clocks may be apart.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset


class ManualClock:
    """A clock that moves only by `advance`: for tests and simulations."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
