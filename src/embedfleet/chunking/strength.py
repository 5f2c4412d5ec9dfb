"""How good a place is for a chunk to begin."""

from __future__ import annotations

from enum import IntEnum


class Strength(IntEnum):
    """Of the boundary before an atom, weakest first."""

    NONE = 0
    """No boundary."""
    GLUED = 1
    """The atom belongs to the one before: the text after its heading, the end of a code fence."""
    WORD = 2
    WRAP = 3
    """A line of running text that was merely wrapped here; a line inside a code fence."""
    SENTENCE = 4
    LINE = 5
    """A list item, a table row, a line of code; a blank line inside a code fence."""
    PARAGRAPH = 6
    HEADING_6 = 7
    HEADING_5 = 8
    HEADING_4 = 9
    HEADING_3 = 10
    HEADING_2 = 11
    HEADING_1 = 12
    HARD = 13
    """A cut inside a word: a chunk always begins here, for across it token ids do not add up."""


def heading_strength(level: int) -> Strength:
    """Of a heading of level 1 (strongest) to 6."""
    return Strength(Strength.HARD - level)
