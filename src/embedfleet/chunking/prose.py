"""Tells line breaks that have a meaning from line breaks that only wrap running text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import LOWER, Characters
from embedfleet.chunking.lines import Lines
from embedfleet.chunking.strength import Strength

_MARKERS = "-*+|>#=~0123456789\u2022\u2023\u2043\u25e6"
"""A line that begins with one of these is a list item, a table row, a quote or a record."""

# By code point, with an entry past the last marker for all that are beyond. A look-up takes a tenth of the
# time of `numpy.isin`, which counts for short documents.
_IS_MARKER = np.zeros(max(map(ord, _MARKERS)) + 2, dtype=np.bool_)
_IS_MARKER[[ord(character) for character in _MARKERS]] = True

_CODE_INDENT = 4
_TAB = ord("\t")
_WRAPPED_LINE_CHARS = 40
"""A shorter line that ends no sentence is broken on purpose: it is a verse, an address or a title."""


def line_strengths(
    characters: Characters,
    lines: Lines,
    ends_sentence: NDArray[np.bool_],
    column: int,
) -> NDArray[np.int8]:
    """int8 (n_lines,): the strength of the boundary before each line.

    `ends_sentence`: bool (n_lines,), whether the line's last word ends a sentence. `column`: how many
    characters of the first line are before the text.
    """
    lengths = lines.ends - lines.texts
    lengths[0] += column
    previous_ends_sentence = np.concatenate(([True], ends_sentence[:-1]))
    previous_is_long = np.concatenate(([False], lengths[:-1] >= _WRAPPED_LINE_CHARS))
    first = characters.points[lines.texts]
    # The order matters: the first case that holds decides, so the last is written first.
    cases = [
        (lines.after_blank, Strength.PARAGRAPH),
        (
            _IS_MARKER.take(first, mode="clip")
            | (lines.indents >= _CODE_INDENT)
            | (characters.points[lines.starts] == _TAB),
            Strength.LINE,
        ),
        (characters.kinds[lines.texts] == LOWER, Strength.WRAP),
        (previous_ends_sentence, Strength.SENTENCE),
        (previous_is_long, Strength.WRAP),
    ]
    strengths = np.full(len(lines), Strength.LINE, dtype=np.int8)
    for condition, strength in reversed(cases):
        strengths[condition] = strength
    return strengths
