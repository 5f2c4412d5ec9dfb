"""Numbers, rates and times as people read them in messages and on a terminal."""

from __future__ import annotations

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def number_of(number: int, thing: str, things: str | None = None) -> str:
    """Return a number with its noun: `1 request`, `2,000 requests`.

    `things` is the plural, if it is not the noun with an `s`.
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def readable_fraction(value: float) -> str:
    """Return 0.0125 as `1.25%`."""
    return f"{value * 100:.3g}%"


def readable_seconds(value: float) -> str:
    """Return a time as commands take it: `90s` as `1m30s`, below ten seconds with three digits.

    It is rounded to the nearest second. Of a longer time two units are shown: `1d2h`.
    """
    if value < 1:
        return f"{value * 1000:.3g}ms" if value else "0s"
    if value < 10:
        return f"{value:.3g}s"
    left, pieces = round(value), []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces[:2])
