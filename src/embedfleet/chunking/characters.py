"""Classifies characters for the scanner, for a whole text at once.

The kind `SPACE` is narrower than `str.isspace`: it has only the white space that a tokeniser also treats as a
word border, so a cut there never changes token ids. Form feed, vertical tab and the C0 separators are
`BLANK`: BERT's normaliser *removes* them, so `a\\fb` is one word for it. So are characters of no width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray

from embedfleet.visible_text import INVISIBLE_RANGES

OTHER, SPACE, BLANK, LOWER, SENTENCE_END, WIDE_SENTENCE_END, WIDE_PAUSE, CLOSER, MARK, BLANK_MARK = range(10)
"""`MARK`: belongs to the character before it, as an accent and a skin tone do. `BLANK_MARK`: such a mark that
has no width, as a joiner of emoji has not."""

SENTENCE_ENDS = ".!?\u2026\u203d\u061f\u06d4\u0589\u0964\u0965\u1362\u1367\u17d4\u104b"
"""End a sentence if white space follows (Latin, Arabic, Armenian, Indic, Ethiopic, Khmer, Burmese)."""

WIDE_SENTENCE_ENDS = "\u3002\uff01\uff1f\uff61"
"""End a sentence before any character: Chinese and Japanese put no space after a sentence."""

_WIDE_PAUSES = "\uff0c\u3001\uff1b\uff1a"
_CLOSERS = ")]}\"'*_`\u2019\u201d\u203a\xbb\u300d\u300f\uff09\u3011\u300b\u3009"
SPACES = " \t\n\r\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_BLANKS = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
_CASED_BLOCKS = range(0x0530)
"""Latin, Greek and Cyrillic: a lower-case letter of these shows that a sentence goes on."""

_MARKS = regex.compile(r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]")
_BLOCKS_WITH_MARKS = (range(0x0300, 0xD800), range(0xE000, 0x20000), range(0xE0000, 0xE0200))
_CLUSTER = regex.compile(r"\X")
"""A grapheme cluster by Unicode's Standard Annex 29: what a reader takes for one character."""

_TABLE_SIZE = 0xE1001
"""One more than the last invisible character: the last entry stands for all that are beyond."""


def _kind_table() -> NDArray[np.uint8]:
    table = np.zeros(_TABLE_SIZE, dtype=np.uint8)
    for first, last in INVISIBLE_RANGES:
        table[first : last + 1] = BLANK
    for block in _BLOCKS_WITH_MARKS:
        marks = np.array([ord(mark) for mark in _MARKS.findall("".join(map(chr, block)))])
        table[marks] = np.where(table[marks] == BLANK, BLANK_MARK, MARK)
    table[[code for code in _CASED_BLOCKS if chr(code).islower()]] = LOWER
    for kind, characters in (
        (SPACE, SPACES),
        (BLANK, _BLANKS),
        (SENTENCE_END, SENTENCE_ENDS),
        (WIDE_SENTENCE_END, WIDE_SENTENCE_ENDS),
        (WIDE_PAUSE, _WIDE_PAUSES),
        (CLOSER, _CLOSERS),
    ):
        table[[ord(character) for character in characters]] = kind
    return table


_KINDS = _kind_table()
_LATIN_KINDS = _KINDS[:256].tobytes()
_SHOWS_NOTHING = np.isin(np.arange(256), (SPACE, BLANK, BLANK_MARK))
"""By kind."""


@dataclass(frozen=True, slots=True)
class Characters:
    """A text, and the code point and kind of each character (lone surrogates too): arrays (len(text),)."""

    text: str
    points: NDArray[np.uint8] | NDArray[np.uint32]
    kinds: NDArray[np.uint8]


def look_up(text: str) -> Characters:
    """Classify every character of a text."""
    if text.isascii():
        points: NDArray[np.uint8] | NDArray[np.uint32] = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    else:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return Characters(text, points, _kinds(text, points))


def is_blank(text: str) -> NDArray[np.bool_]:
    """bool (len(text),): for each character, whether it is white space or shows nothing."""
    blank: NDArray[np.bool_] = _SHOWS_NOTHING[look_up(text).kinds]
    return blank


def _kinds(text: str, points: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    # Bytes are translated at memory speed; the few characters past Latin-1 are looked up one by one.
    kinds = np.frombuffer(text.encode("latin-1", "replace").translate(_LATIN_KINDS), dtype=np.uint8)
    if points.dtype == np.uint8:
        return kinds
    wide = np.flatnonzero(points > 0xFF)
    kinds = kinds.copy()
    kinds[wide] = _KINDS[np.minimum(points[wide], _TABLE_SIZE - 1)]
    return kinds


def before_cluster(text: str, start: int, cut: int) -> int:
    """Move `cut` back so that it is inside of no grapheme cluster: no letter loses its accents, no flag its
    half. `start` must be at the beginning of a cluster.

    The result is greater than `start`. A cluster that reaches from `start` past `cut` is cut at `cut`.
    """
    if cut >= len(text) or (text[cut - 1 : cut + 1].isascii() and text[cut - 1 : cut + 1] != "\r\n"):
        return cut
    last = start
    # The cluster around the cut depends on all before it: in a row of flags, every second half begins one.
    for cluster in _CLUSTER.finditer(text, start, cut + 1):
        last = cluster.start()
    return last if last > start else cut
