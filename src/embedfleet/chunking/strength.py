"""The strength of a boundary: how good it is as the start of a chunk."""

from __future__ import annotations

from enum import IntEnum


class Strength(IntEnum):
    """The strength of the boundary before an atom, weakest first."""

    NONE = 0
    """No boundary."""
    GLUED = 1
    """The atom belongs to the one before it: the text after a heading, the end of a code fence."""
    WORD = 2
    WRAP = 3
    """The line break before it only wraps running text; or it is a line inside of a code fence."""
    SENTENCE = 4
    LINE = 5
    """A list item, a table row or a line of code; or a line after a blank one inside of a code fence."""
    PARAGRAPH = 6
    HEADING_6 = 7
    HEADING_5 = 8
    HEADING_4 = 9
    HEADING_3 = 10
    HEADING_2 = 11
    HEADING_1 = 12
    HARD = 13
    """A cut inside of a word. A chunk always begins here: across the cut, token ids do not add up."""


def heading_strength(level: int) -> Strength:
    """The strength of a heading of level 1 (strongest) to 6."""
    return Strength(Strength.HARD - level)
