"""When a job will have ended, from what goes before it and from the measured rate of the workers.

The stages work side by side, so the slowest one sets the pace. A tenant gets its share of that pace while
others have work; when they have none, it gets all of it. Work is counted in tokens.

    seconds = min(own / (rate * share), total / rate)

`own` is what is left of the job and of the tenant's jobs that go first. The first term holds while every
other tenant has work. The second is the time in which all work of the system is done: it bounds the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CHARS_PER_TOKEN = 4
"""About how many characters of prose a token has, for texts whose tokens were not counted yet."""


@dataclass(frozen=True, slots=True)
class StagePower:
    """The workers of a stage on all hosts. `tokens_per_second`: of all together; None: not measured yet."""

    workers: int
    tokens_per_second: float | None = None


def pace(stages: Mapping[str, StagePower]) -> float | None:
    """Return the tokens a second of the slowest stage that was measured; None if none was."""
    measured = [stage.tokens_per_second for stage in stages.values() if stage.tokens_per_second]
    return min(measured, default=None)


@dataclass(frozen=True, slots=True)
class WorkAhead:
    """What is left to do before a job has ended, in tokens: `own` of its tenant, itself included, and `total`
    of all tenants. `share` is the tenant's part of the workers, above 0 and up to 1."""

    own: float
    total: float
    share: float


def two_digits(seconds: float | None) -> float | None:
    """Return the seconds with two digits: an ETA is no better than that."""
    return None if seconds is None else float(f"{seconds:.2g}")


def seconds_left(work: WorkAhead, rate: float | None) -> float | None:
    """Return the seconds until the job has ended at this rate in tokens a second; None without a rate."""
    if not rate:
        return None
    total = max(work.total, work.own)
    return min(work.own / (rate * work.share), total / rate)
