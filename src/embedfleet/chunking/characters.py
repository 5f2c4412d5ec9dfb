"""Classifies characters for the scanner, for a whole text at once.

The kind `SPACE` is narrower than `str.isspace`: it has only the white space that a tokeniser also treats as a
word border, so a cut there never changes token ids. Form feed, vertical tab and the C0 separators are
`BLANK`: BERT's normaliser *removes* them, so `a\\fb` is one word for it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OTHER, SPACE, BLANK, LOWER, SENTENCE_END, WIDE_SENTENCE_END, WIDE_PAUSE, CLOSER = range(8)

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

_LONGEST_MARK_RUN = 16
"""More combining marks than any real text has on one letter."""


def _kind_table() -> NDArray[np.uint8]:
    table = np.zeros(0x10000, dtype=np.uint8)
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
    """bool (len(text),): for each character, the same as its `str.isspace`."""
    kinds = look_up(text).kinds
    blank: NDArray[np.bool_] = (kinds == SPACE) | (kinds == BLANK)
    return blank


def _kinds(text: str, points: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    # Bytes are translated at memory speed; the few characters past Latin-1 are looked up one by one.
    kinds = np.frombuffer(text.encode("latin-1", "replace").translate(_LATIN_KINDS), dtype=np.uint8)
    if points.dtype == np.uint8:
        return kinds
    wide = np.flatnonzero(points > 0xFF)
    kinds = kinds.copy()
    kinds[wide] = _KINDS[np.minimum(points[wide], 0xFFFF)]
    return kinds


def before_mark(text: str, start: int, cut: int) -> int:
    """Move `cut` back so that it separates no letter from its combining marks and no emoji from its joiners.

    The result is greater than `start`. A run of marks longer than in any real text is cut at `cut`.
    """
    moved = cut
    while moved > start and cut - moved < _LONGEST_MARK_RUN:
        if moved >= len(text) or not (_is_mark(text[moved]) or text[moved - 1] == "\u200d"):
            return moved
        moved -= 1
    return cut


def _is_mark(character: str) -> bool:
    return character == "\u200d" or unicodedata.category(character) in ("Mn", "Me", "Mc")
