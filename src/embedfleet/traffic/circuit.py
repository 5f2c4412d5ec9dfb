"""Leaves a path alone that is away, so that a dead fleet does not cost each request its time limit."""

from __future__ import annotations

from embedfleet.clock import Clock, SteadyClock
from embedfleet.retry import BackOff

# More than chance: where one request in five fails, five in a row come once in 3,000 requests.
_FAILURES_TO_OPEN = 5
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


class Circuit:
    """Says whether a path may be called. It counts the failures that say that the path is away.

    After five of them in a row the path is left alone for a second. Then one call tries it: if that fails
    too, the pause doubles, up to half a minute; if it succeeds, the path is called as before.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        """Without a clock, pauses are of time that passes: setting the machine's clock prolongs none."""
        self._clock = clock or SteadyClock()
        self._failures = 0
        self._back_off = BackOff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._try_at = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the path is left alone, but for single tries."""
        return self._failures >= _FAILURES_TO_OPEN

    def admits(self) -> bool:
        """Whether the path may be called now. Afterwards the caller calls `note_answer` or `note_absence`."""
        if not self.is_open:
            return True
        if self._trying or self._clock.now() < self._try_at:
            return False
        self._trying = True
        return True

    def note_answer(self) -> None:
        """The path has answered, be it with a refusal: it is there."""
        self._failures = 0
        self._trying = False
        self._back_off.reset()

    def note_absence(self) -> None:
        """The path did not answer."""
        self._failures += 1
        self._trying = False
        if self.is_open:
            self._try_at = self._clock.now() + self._back_off.next_seconds()
