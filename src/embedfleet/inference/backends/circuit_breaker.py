"""Leaves a server alone that does not work."""

from __future__ import annotations

_FAILURES_TO_OPEN = 5
_FIRST_PAUSE_SECONDS = 1.0
# One request in ten seconds harms nobody, and work goes on within ten seconds of the server's return.
_LONGEST_PAUSE_SECONDS = 10.0


class CircuitBreaker:
    """Open after some failures in a row, for a pause that doubles each time; then one request, the probe, is
    let through, and its outcome decides. Pure: `now` is a monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    def refuses_for(self, now: float) -> float:
        """How long nobody may ask, as far as is known; 0: one may."""
        if self._open_until is None:
            return 0.0
        if self._probing:
            return _FIRST_PAUSE_SECONDS
        return max(0.0, self._open_until - now)

    def let_through(self) -> bool:
        """A request that is not refused goes out; True: it is the probe."""
        self._probing = self.is_open
        return self._probing

    def answered(self) -> None:
        """The server works, whatever it said."""
        self._failures = 0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._open_until = None
        self._probing = False

    def failed(self, now: float, *, probe: bool) -> None:
        """Failures of requests sent before it opened say nothing new."""
        self._failures += 1
        if probe:
            self._probing = False
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        if probe or (self._open_until is None and self._failures >= _FAILURES_TO_OPEN):
            self._open_until = now + self._pause_seconds

    def abandoned(self, *, probe: bool) -> None:
        """Nothing was learnt of it: the next request is the probe."""
        if probe:
            self._probing = False
