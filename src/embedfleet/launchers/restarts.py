"""When a crashed worker starts again, and when crashing has become the normal case: arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Seconds throughout. A worker that lived for `healthy_seconds` has its crashes forgiven."""

    base_seconds: float = 1.0
    cap_seconds: float = 60.0
    crash_loop_after: int = 5
    healthy_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """One slot's crashes in a row."""

    in_a_row: int = 0

    def after_crash(self, policy: RestartPolicy, *, lived_seconds: float) -> CrashRecord:
        return CrashRecord(1 if lived_seconds >= policy.healthy_seconds else self.in_a_row + 1)

    def delay_seconds(self, policy: RestartPolicy) -> float:
        """The pause before the next start: none after the first crash of a healthy worker would hide a loop,
        so it begins at the base and doubles."""
        if not self.in_a_row:
            return 0.0
        return min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(self.in_a_row - 1, _MOST_DOUBLINGS))

    def is_loop(self, policy: RestartPolicy) -> bool:
        return self.in_a_row >= policy.crash_loop_after
