"""Numbers and times in the words of the guard's and the retirement's messages."""

from __future__ import annotations

import math


def number_of(number: int, thing: str, things: str | None = None) -> str:
    """Return a number with its noun: `1 request`, `2 requests`. `things` is a plural without a plain `s`."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def time_left(seconds: float) -> str:
    """Return a time as an operator types it: `90s` is `1m30s`. It is rounded up to a whole second."""
    left = math.ceil(seconds)
    parts = []
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, unit)
        if number:
            parts.append(f"{number}{name}")
    return "".join(parts) or "0s"
