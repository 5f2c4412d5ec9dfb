"""The characters on which the fast tokeniser and the reference agree.

The two libraries carry Unicode tables of different ages, so they part company over characters added
or reclassified since (measured over all 1.1 million code points: unassigned ones, punctuation and
marks of recent scripts, DEL). Characters that Unicode 3.2 already had are the same in both.
"""

from __future__ import annotations

import re
import sys
import unicodedata

_LATER = ((0x1F300, 0x1F64F), (0x1F680, 0x1F6D0), (0x1F900, 0x1F9FF), (0x20000, 0x2A6D6))
"""Emoji and rare Chinese characters: newer or beyond the basic plane, and found to agree."""

_RECLASSIFIED = frozenset("\x7f\u166d\u1734\u1885\u1886")
_SURROGATES = range(0xD800, 0xE000)
_DENSE_BELOW = 0x3400
_SPARSE_STEP = 16


def settled_ranges() -> list[tuple[int, int]]:
    """The settled characters, as closed ranges of code points in order."""
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
    return [*ranges, *_LATER]


def unsettled_pattern(ranges: list[tuple[int, int]]) -> re.Pattern[str]:
    """Finds a character outside `ranges`."""
    gaps = []
    following = 0
    for first, last in ranges:
        if first > following:
            gaps.append((following, first - 1))
        following = last + 1
    gaps.append((following, sys.maxunicode))
    return re.compile("[" + "".join(f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in gaps) + "]")


def sample(ranges: list[tuple[int, int]]) -> list[str]:
    """Characters to try: all of the alphabets and emoji, every sixteenth of the large uniform blocks."""
    return [
        chr(code)
        for first, last in ranges
        for code in range(first, last + 1)
        if code < _DENSE_BELOW or 0x1F000 <= code < 0x20000 or code % _SPARSE_STEP == 0
    ]
