"""What operators ask for, checked. Every function raises InvalidRequest, which names the field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

from embedfleet.errors import InvalidRequest
from embedfleet.traffic.state import Plan

StickyBy = Literal["tenant", "document"]

LONGEST_REASON = 1_000
"""The most characters of a reason."""
_LONGEST_NAME = 256
_LONGEST_SECONDS = 366 * 86_400.0
_MOST_STEPS = 100


def checked_percent(field: str, percent: float) -> float:
    """Return a percentage from 0 to 100 with at most two decimals, as requests are dealt out that finely."""
    if not 0 <= percent <= 100 or round(percent, 2) != percent:
        raise InvalidRequest(
            f"{field}: must be from 0 to 100, with at most two decimals (got {percent:g})", field=field
        )
    return float(percent)


def checked_names(field: str, names: Iterable[str]) -> frozenset[str]:
    """Return names of tenants, or content types."""
    if isinstance(names, str):  # which is an iterable of its characters
        raise InvalidRequest(f"{field}: must be a list of names, and not one text", field=field)
    found = frozenset(names)
    for name in sorted(found):
        if not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
            raise InvalidRequest(
                f"{field}: each name must have 1 to {_LONGEST_NAME} characters, and no NUL", field=field
            )
    return found


def checked_sticky_by(sticky_by: StickyBy) -> StickyBy:
    """Return what a decision is sticky by."""
    if sticky_by not in get_args(StickyBy):
        raise InvalidRequest(f"sticky_by: must be tenant or document (got `{sticky_by}`)", field="sticky_by")
    return sticky_by


def checked_reason(reason: str | None) -> str | None:
    """Return why something is changed, in the operator's words."""
    if reason is not None and (len(reason) > LONGEST_REASON or "\0" in reason):
        raise InvalidRequest(
            f"reason: must have at most {LONGEST_REASON} characters, and no NUL", field="reason"
        )
    return reason


def checked_seconds(field: str, seconds: float) -> float:
    """Return a duration of up to a year."""
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise InvalidRequest(
            f"{field}: must be from 0 to {_LONGEST_SECONDS:.0f} seconds (got {seconds:g})", field=field
        )
    return float(seconds)


def checked_plan(
    steps: Sequence[float],
    *,
    percent_now: float,
    hold_seconds: float,
    max_error_rate: float,
    max_p99_ratio: float,
    begins_at: float,
    first_change_id: int,
) -> Plan:
    """Return a plan at its first step. The steps rise, from the present percentage or above.

    A first step below it would move tenants back, which a climb does not do.
    """
    most_errors, most_p99_ratio = _checked_limits(max_error_rate, max_p99_ratio)
    return Plan(
        steps=_checked_steps(steps, percent_now),
        hold_seconds=checked_seconds("hold_seconds", hold_seconds),
        max_error_rate=most_errors,
        max_p99_ratio=most_p99_ratio,
        since=begins_at,
        first_change_id=first_change_id,
    )


def _checked_steps(steps: Sequence[float], percent_now: float) -> tuple[float, ...]:
    if not 0 < len(steps) <= _MOST_STEPS:
        raise InvalidRequest(
            f"steps: must be 1 to {_MOST_STEPS} percentages (got {len(steps)})", field="steps"
        )
    rising = tuple(checked_percent("steps", step) for step in steps)
    if rising[0] == 0 or any(lower >= higher for lower, higher in pairwise(rising)):
        shown = ", ".join(f"{step:g}" for step in rising)
        raise InvalidRequest(f"steps: must rise, and begin above 0 (got {shown})", field="steps")
    if rising[0] < percent_now:
        raise InvalidRequest(
            f"steps: the first one ({rising[0]:g}%) is below the present {percent_now:g}%, and would move "
            f"requests back: begin at {percent_now:g} or above, or set the percentage first",
            field="steps",
        )
    return rising


def _checked_limits(max_error_rate: float, max_p99_ratio: float) -> tuple[float, float]:
    # At 0% a single failure would be above the limit, and no number of requests could show less.
    if not 0 < max_error_rate < 1:
        raise InvalidRequest(
            f"max_error_rate: must be above 0 and below 1, such as 0.01 for 1% (got {max_error_rate:g})",
            field="max_error_rate",
        )
    if not 0 < max_p99_ratio < math.inf:
        raise InvalidRequest(
            f"max_p99_ratio: must be above 0, such as 1.5 (got {max_p99_ratio:g})", field="max_p99_ratio"
        )
    return float(max_error_rate), float(max_p99_ratio)
