"""The checks of arguments that every broker makes before it changes anything."""

from __future__ import annotations

from embedfleet.errors import InvalidRequest


def require_at_least_one(**counts: int) -> None:
    """Raise InvalidRequest, which names the argument, if one of the counts is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise InvalidRequest(f"{name} is {value}; it must be at least 1")


def require_positive(**durations: float) -> None:
    """Raise InvalidRequest, which names the argument, unless each duration is above 0. NaN is refused."""
    for name, value in durations.items():
        if not value > 0:
            raise InvalidRequest(f"{name} is {value}; it must be more than 0")


def require_not_negative(**durations: float) -> None:
    """Raise InvalidRequest, which names the argument, unless each duration is at least 0. NaN is refused."""
    for name, value in durations.items():
        if not value >= 0:
            raise InvalidRequest(f"{name} is {value}; it must be 0 or more")
