"""Stops asking a server that does not work."""

from __future__ import annotations

from embedfleet.retry import BackOff

_FAILURES_TO_OPEN = 5
_FIRST_PAUSE_SECONDS = 1.0
# One request in ten seconds harms no server, and work goes on within ten seconds of the server's return.
_LONGEST_PAUSE_SECONDS = 10.0


class CircuitBreaker:
    """Opens after five failures in a row: then no request goes out for a pause, which doubles each time.

    After the pause one request, the probe, goes out. If it fails, the next pause begins; any answer closes
    the breaker. Pure: `now` is a monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pauses = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether requests are refused, except for the probe."""
        return self._open_until is not None

    def refuses_for(self, now: float) -> float:
        """Seconds until a request may go out, as far as is known; 0: it may go out now."""
        if self._open_until is None:
            return 0.0
        if self._probing:
            return _FIRST_PAUSE_SECONDS
        return max(0.0, self._open_until - now)

    def let_through(self) -> bool:
        """A request that is not refused goes out. Returns whether it is the probe."""
        self._probing = self.is_open
        return self._probing

    def answered(self) -> None:
        """The server answered, so it works, even if the answer is a refusal."""
        self._failures = 0
        self._pauses.reset()
        self._open_until = None
        self._probing = False

    def failed(self, now: float, *, probe: bool) -> None:
        """The request had no usable answer."""
        self._failures += 1
        if probe:
            self._probing = False
        # While the breaker is open only the probe counts: the other failures are of requests that were sent
        # before it opened, and must not make the pause longer.
        opens = self._open_until is None and self._failures >= _FAILURES_TO_OPEN
        if probe or opens:
            self._open_until = now + self._pauses.next_seconds()

    def abandoned(self, *, probe: bool) -> None:
        """The request ended without saying anything about the server: if it was the probe, the next request
        is the probe."""
        if probe:
            self._probing = False
