"""Percentages and times as people type them, such as `1%` and `30m`, and as they read them."""

from __future__ import annotations

import math
import re

import typer

_NUMBER = r"(\d+(?:\.\d+)?)"
_PERCENTAGE = re.compile(_NUMBER + "%")
_PERCENT = re.compile(_NUMBER + "%?")
_TIME = re.compile(f"(?:{_NUMBER}(ms|[smhd]))+")
_PART_OF_TIME = re.compile(_NUMBER + "(ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST_SECONDS = 3_650 * 86_400.0  # ten years: what is longer is a misspelling
_LONGEST = 64  # of a text: a number of a thousand digits is no number that a person typed


def fraction(written: str, option: str) -> float:
    """Return `1%` as 0.01. Raises BadParameter, which names the option.

    The sign is required: without it, 0.5 might mean one half or half a percent.
    """
    found = _match(_PERCENTAGE, written)
    if found is None or float(found[1]) > 100:
        raise typer.BadParameter(
            f"`{written}` must be a percentage from 0% to 100%, such as 1% or 0.5%", param_hint=option
        )
    # Division gives the nearest number: 0.1 * 0.01 would not be 0.001.
    return float(found[1]) / 100


def percent(written: str, option: str) -> float:
    """Return `25` or `25%` as 25.0. Raises BadParameter, which names the option."""
    found = _match(_PERCENT, written)
    if found is None or float(found[1]) > 100:
        raise typer.BadParameter(
            f"`{written}` must be a percentage from 0 to 100, such as 25", param_hint=option
        )
    return float(found[1])


def percents(written: str, option: str) -> list[float]:
    """Return `1,5,25` as a list of numbers. Raises BadParameter, which names the option."""
    return [percent(one.strip(), option) for one in written.split(",")]


def seconds(written: str, option: str) -> float:
    """Return a time such as `30m` or `1h30m` in seconds. Raises BadParameter, which names the option."""
    found = _match(_TIME, written)
    total = 0.0
    if found is not None:
        total = math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART_OF_TIME.findall(written))
    if found is None or total > _LONGEST_SECONDS:
        raise typer.BadParameter(
            f"`{written}` must be a time with a unit, such as 90s, 30m, 1h30m or 7d", param_hint=option
        )
    return total


def _match(pattern: re.Pattern[str], written: str) -> re.Match[str] | None:
    return pattern.fullmatch(written) if written.isascii() and len(written) <= _LONGEST else None


def readable_percent(value: float) -> str:
    """Return 25.0 as `25%`. Two decimals count."""
    return f"{round(value, 2):g}%"
