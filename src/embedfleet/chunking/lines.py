"""The lines of a text that are not blank, and what a format's reader says about them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import Characters
from embedfleet.chunking.strength import Strength
from embedfleet.chunking.words import Words

_MOST_INDENT = 256
"""Deeper indentation is layout, not meaning: the line's atom then starts at its first word."""

_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True, slots=True)
class Lines:
    """Aligned arrays (n_lines,), int64 but for `after_blank`, which is bool. Offsets into the text.

    A line spans `starts` to `ends`; its first word begins at `texts`, which is `indents` after its
    start, and is number `first_words`.
    """

    starts: NDArray[np.int64]
    texts: NDArray[np.int64]
    ends: NDArray[np.int64]
    indents: NDArray[np.int64]
    first_words: NDArray[np.int64]
    after_blank: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True)
class Context:
    """What a line means depends on these: the open code fence (its marker) and the headings above,
    as (level, title), outermost first. `at_start` until the first line of the document is read."""

    fence: str = ""
    headings: tuple[tuple[int, str], ...] = ()
    at_start: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(title for _, title in self.headings)

    def under(self, level: int, title: str) -> tuple[tuple[int, str], ...]:
        """The headings once one more is met: those above its level, then itself."""
        return (*(heading for heading in self.headings if heading[0] < level), (level, title))


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a scan goes on: the strength of the boundary there (`NONE`: to be found out, after a
    blank), how many characters of its line came before, and the context."""

    context: Context
    strength: int = Strength.NONE
    column: int = 0

    @property
    def after_blank(self) -> bool:
        return self.strength == Strength.NONE or self.strength >= Strength.PARAGRAPH


@dataclass(frozen=True, slots=True)
class Marks:
    """What a format's reader found. `strengths`: int8 (n_lines,), `UNSAID` where prose rules apply;
    `literal`: bool (n_lines,), lines without sentences; `contexts`: (offset, context from there on)."""

    strengths: NDArray[np.int8]
    literal: NDArray[np.bool_]
    contexts: list[tuple[int, Context]] = field(default_factory=list)


UNSAID = -1


def unmarked(lines: Lines) -> Marks:
    """Plain prose: nothing to say about any line."""
    return Marks(np.full(len(lines), UNSAID, dtype=np.int8), np.zeros(len(lines), dtype=np.bool_))


def find_lines(characters: Characters, words: Words, *, after_blank: bool, longest_gap: int) -> Lines:
    """The lines that hold a word. LF, CR LF and a lone CR end a line.

    `after_blank` says whether a blank line came before the text. More than `longest_gap` characters of
    white space count as one too.
    """
    breaks = np.concatenate(([0], _line_breaks(characters) + 1))
    bounds = np.append(np.searchsorted(words.starts, breaks), len(words))
    busy = np.flatnonzero(bounds[1:] > bounds[:-1])
    first_words = bounds[busy]
    texts = words.starts[first_words]
    ends = words.ends[np.append(first_words[1:], len(words)) - 1]
    indents = texts - breaks[busy]
    indents[indents > _MOST_INDENT] = 0
    blank_between = (np.diff(busy) > 1) | (texts[1:] - ends[:-1] > longest_gap)
    return Lines(
        starts=texts - indents,
        texts=texts,
        ends=ends,
        indents=indents,
        first_words=first_words,
        after_blank=np.concatenate(([after_blank or busy[0] > 0], blank_between)),
    )


def _line_breaks(characters: Characters) -> NDArray[np.int64]:
    points = characters.points
    breaks = np.flatnonzero(points == _NEWLINE)
    if "\r" not in characters.text:
        return breaks
    returns = np.flatnonzero(points[:-1] == _RETURN)
    return np.sort(np.concatenate((breaks, returns[points[returns + 1] != _NEWLINE])))
