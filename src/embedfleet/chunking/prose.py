"""Running text: which line breaks mean something and which are only wrapping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import LOWER, Characters
from embedfleet.chunking.lines import Lines
from embedfleet.chunking.strength import Strength

_MARKERS = np.array([ord(character) for character in "-*+|>#=~0123456789\u2022\u2023\u2043\u25e6"])
"""A line that starts so is a list item, a table row, a quote or a record."""

_CODE_INDENT = 4
_TAB = ord("\t")
_WRAPPED_LINE_CHARS = 40
"""A shorter line that does not end a sentence was broken on purpose: a verse, an address, a title."""


def line_strengths(
    characters: Characters,
    lines: Lines,
    ends_sentence: NDArray[np.bool_],
    column: int,
) -> NDArray[np.int8]:
    """int8 (n_lines,): strength of the boundary before each line.

    `ends_sentence`: bool (n_lines,), whether the line's last word ends one. `column`: characters of
    the first line that came before the text.
    """
    lengths = lines.ends - lines.texts
    lengths[0] += column
    before_ended = np.concatenate(([True], ends_sentence[:-1]))
    before_long = np.concatenate(([False], lengths[:-1] >= _WRAPPED_LINE_CHARS))
    first = characters.points[lines.texts]
    # In this order: the first case that holds decides.
    cases = [
        (lines.after_blank, Strength.PARAGRAPH),
        (
            np.isin(first, _MARKERS)
            | (lines.indents >= _CODE_INDENT)
            | (characters.points[lines.starts] == _TAB),
            Strength.LINE,
        ),
        (characters.kinds[lines.texts] == LOWER, Strength.WRAP),
        (before_ended, Strength.SENTENCE),
        (before_long, Strength.WRAP),
    ]
    conditions, strengths = zip(*cases, strict=True)
    return np.select(conditions, [np.int8(s) for s in strengths], default=np.int8(Strength.LINE))
