"""The characters on which the fast tokeniser and the reference agree.

The two libraries carry Unicode tables of different ages, so they differ on characters that were added or
reclassified between them: unassigned ones, punctuation and marks of recent scripts, and DEL (measured over
all 1.1 million code points). They agree on the characters of Unicode 3.2, which are called settled here.
"""

from __future__ import annotations

import re
import sys
import unicodedata

_LATER_SETTLED = ((0x1F300, 0x1F64F), (0x1F680, 0x1F6D0), (0x1F900, 0x1F9FF), (0x20000, 0x2A6D6))
"""Emoji and rare Chinese characters: newer, or outside of the basic plane; the libraries agree on them."""

_RECLASSIFIED = frozenset("\x7f\u166d\u1734\u1885\u1886")
"""The characters of Unicode 3.2 on which the libraries differ."""

_SURROGATES = range(0xD800, 0xE000)
_DENSE_BELOW = 0x3400  # where the large blocks of Chinese characters begin
_SPARSE_STEP = 16


def settled_ranges() -> list[tuple[int, int]]:
    """The settled characters as closed ranges of code points, in order."""
    category = unicodedata.ucd_3_2_0.category
    ranges: list[tuple[int, int]] = []
    for code in range(0x10000):
        character = chr(code)
        if code in _SURROGATES or character in _RECLASSIFIED or category(character) == "Cn":
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1] = (ranges[-1][0], code)
        else:
            ranges.append((code, code))
    return [*ranges, *_LATER_SETTLED]


def unsettled_pattern(ranges: list[tuple[int, int]]) -> re.Pattern[str]:
    """A pattern that matches one character outside of `ranges`."""
    gaps = []
    following = 0
    for first, last in ranges:
        if first > following:
            gaps.append((following, first - 1))
        following = last + 1
    gaps.append((following, sys.maxunicode))
    return re.compile("[" + "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in gaps) + "]")


def sample(ranges: list[tuple[int, int]]) -> list[str]:
    """Characters to try: all of the alphabets and emoji, and every sixteenth of the large uniform blocks."""
    return [
        chr(code)
        for first, last in ranges
        for code in range(first, last + 1)
        if code < _DENSE_BELOW or 0x1F000 <= code < 0x20000 or code % _SPARSE_STEP == 0
    ]
