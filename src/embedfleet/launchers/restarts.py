"""Decides when a crashed worker starts again, and when its crashes are a loop. It reads no clock."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.retry import BackOff


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The pauses between restarts, in seconds, and what counts as a crash loop.

    The first pause is `base_seconds`, so that even the first restarts of a crash loop do not follow at once.
    The pause doubles with each crash in a row, up to `cap_seconds`. A worker that was ready for
    `healthy_seconds` resets the count of crashes. `crash_loop_after` crashes in a row are a loop.
    """

    base_seconds: float = 1.0
    cap_seconds: float = 60.0
    crash_loop_after: int = 5
    healthy_seconds: float = 60.0


class CrashCounter:
    """Counts the crashes in a row of the workers of one slot."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._back_off = BackOff(policy.base_seconds, policy.cap_seconds)

    @property
    def in_a_row(self) -> int:
        """The crashes since the last worker that ended in good order or lived for `healthy_seconds`."""
        return self._back_off.failures

    @property
    def is_loop(self) -> bool:
        """Whether the crashes in a row are a loop, which an operator should know."""
        return self.in_a_row >= self._policy.crash_loop_after

    def count(self, *, lived_seconds: float) -> float:
        """Count a crash, and return the pause in seconds before the next start."""
        if lived_seconds >= self._policy.healthy_seconds:
            self._back_off.reset()
        return self._back_off.next_seconds()

    def reset(self) -> None:
        """Reset the count, because a worker of the slot has ended in good order."""
        self._back_off.reset()
