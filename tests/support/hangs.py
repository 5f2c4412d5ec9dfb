"""How long a test waits before it says that something hangs.

A test waits for an event or a state. How long that takes decides nothing: the limit of time only turns a
hang into a failure. So it is far above what a machine needs that is ten times slower than a quiet one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from time import monotonic

HANG_SECONDS = 300
"""pytest's own limit (`timeout` in pyproject.toml) is higher, so that the wait which hangs fails by itself.
That limit also exceeds the five minutes for which Hypothesis shrinks a failing example."""

_LOOK_AGAIN_SECONDS = 0.02


def eventually(holds: Callable[[], bool], *, what: str = "the condition") -> None:
    """Return when the condition holds. It is for what other processes do: they send no event, so the
    condition is looked at again and again. Raises AssertionError if it hangs."""
    give_up_at = monotonic() + HANG_SECONDS
    while not holds():
        assert monotonic() < give_up_at, f"{what} did not come about in {HANG_SECONDS} s"
        signal.sigtimedwait([], _LOOK_AGAIN_SECONDS)
