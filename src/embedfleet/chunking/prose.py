"""Tells line breaks that have a meaning from line breaks that only wrap running text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import LOWER, Characters
from embedfleet.chunking.lines import Lines
from embedfleet.chunking.strength import Strength

_MARKERS = np.array([ord(character) for character in "-*+|>#=~0123456789\u2022\u2023\u2043\u25e6"])
"""A line that begins with one of these is a list item, a table row, a quote or a record."""

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
    # The order matters: the first case that holds decides.
    cases = [
        (lines.after_blank, Strength.PARAGRAPH),
        (
            np.isin(first, _MARKERS)
            | (lines.indents >= _CODE_INDENT)
            | (characters.points[lines.starts] == _TAB),
            Strength.LINE,
        ),
        (characters.kinds[lines.texts] == LOWER, Strength.WRAP),
        (previous_ends_sentence, Strength.SENTENCE),
        (previous_is_long, Strength.WRAP),
    ]
    conditions, strengths = zip(*cases, strict=True)
    return np.select(conditions, [np.int8(s) for s in strengths], default=np.int8(Strength.LINE))
