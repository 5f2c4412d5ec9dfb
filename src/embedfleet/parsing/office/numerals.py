"""Numbers of lists and notes as letters and Roman numerals."""

from __future__ import annotations

_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)
_MOST_ROMAN = 3999  # a larger number has no Roman numeral of plain letters
_MOST_REPEATED = 10  # office programs write aa, bb, … after z; more letters than this say nothing


def roman(number: int) -> str:
    """Return 4 as "iv"; a number that has no numeral as it is."""
    if not 0 < number <= _MOST_ROMAN:
        return str(number)
    numeral = ""
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        numeral += letters * count
    return numeral


def letter(number: int) -> str:
    """Return 2 as "b" and 28 as "bb", as office programs count; a number that is too large as it is."""
    repeats, place = divmod(number - 1, 26)
    return chr(ord("a") + place) * (repeats + 1) if 0 <= repeats < _MOST_REPEATED else str(number)


def ordinal(number: int) -> str:
    """Return 2 as "2nd"."""
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
