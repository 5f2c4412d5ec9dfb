"""Finds the lines of a text that are not blank, and holds what a format's reader marks on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import Characters
from embedfleet.chunking.strength import Strength
from embedfleet.chunking.words import Words

_MAX_INDENT = 256
"""Deeper indentation is layout without meaning: then the line's atom starts at the line's first word."""

_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True, slots=True)
class Lines:
    """Aligned arrays (n_lines,) of offsets into the text: int64, except `after_blank`, which is bool.

    A line spans `starts` to `ends`. Its first word has the number `first_words` and begins at `texts`, which
    is `indents` characters after `starts`. `after_blank`: whether a blank line is above it.
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
class Above:
    """What stands above a place in a document and says what the text there is about.

    `headings`: the titles of the headings above, outermost first. `table_header`: the header row of the table
    around the place, "" outside of tables.
    """

    headings: tuple[str, ...] = ()
    table_header: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """The state on which the meaning of a line depends.

    `fence`: the marker of the open code fence, "" if none is open. `headings`: (level, title) of the headings
    above, outermost first. `table_header`: the header row of the table around the line, "" outside of tables.
    `at_start`: whether the first line of the document has not been read yet.
    """

    fence: str = ""
    headings: tuple[tuple[int, str], ...] = ()
    table_header: str = ""
    at_start: bool = False

    @property
    def above(self) -> Above:
        return Above(tuple(title for _, title in self.headings), self.table_header)

    def under(self, level: int, title: str) -> tuple[tuple[int, str], ...]:
        """The headings below a new heading: those of higher rank than `level`, then the new one."""
        return (*(heading for heading in self.headings if heading[0] < level), (level, title))


@dataclass(frozen=True, slots=True)
class Resume:
    """The state with which a scan resumes.

    `strength`: of the boundary where it resumes; `NONE` if the scan must find it out, and white space is
    before it. `column`: how many characters of the line are before it.
    """

    context: Context
    strength: int = Strength.NONE
    column: int = 0

    @property
    def after_blank(self) -> bool:
        return self.strength == Strength.NONE or self.strength >= Strength.PARAGRAPH


@dataclass(frozen=True, slots=True)
class Marks:
    """What a format's reader has found.

    `strengths`: int8 (n_lines,), `UNMARKED` for lines to which the rules of prose apply. `literal`: bool
    (n_lines,), true for lines that have no sentences. `contexts`: pairs of an offset and the context that
    holds from there on.
    """

    strengths: NDArray[np.int8]
    literal: NDArray[np.bool_]
    contexts: list[tuple[int, Context]] = field(default_factory=list)


UNMARKED = -1


def unmarked(lines: Lines) -> Marks:
    """The marks of plain prose: none."""
    return Marks(np.full(len(lines), UNMARKED, dtype=np.int8), np.zeros(len(lines), dtype=np.bool_))


def find_lines(characters: Characters, words: Words, *, after_blank: bool, longest_gap: int) -> Lines:
    """Find the lines that hold a word. LF, CR LF and a lone CR end a line.

    `after_blank`: whether a blank line is before the text. More than `longest_gap` characters of white space
    count as a blank line.
    """
    breaks = np.concatenate(([0], _line_breaks(characters) + 1))
    bounds = np.append(np.searchsorted(words.starts, breaks), len(words))
    with_words = np.flatnonzero(bounds[1:] > bounds[:-1])
    first_words = bounds[with_words]
    texts = words.starts[first_words]
    ends = words.ends[np.append(first_words[1:], len(words)) - 1]
    indents = texts - breaks[with_words]
    indents[indents > _MAX_INDENT] = 0
    blank_between = (np.diff(with_words) > 1) | (texts[1:] - ends[:-1] > longest_gap)
    return Lines(
        starts=texts - indents,
        texts=texts,
        ends=ends,
        indents=indents,
        first_words=first_words,
        after_blank=np.concatenate(([after_blank or with_words[0] > 0], blank_between)),
    )


def _line_breaks(characters: Characters) -> NDArray[np.int64]:
    points = characters.points
    breaks = np.flatnonzero(points == _NEWLINE)
    if "\r" not in characters.text:
        return breaks
    returns = np.flatnonzero(points[:-1] == _RETURN)
    return np.sort(np.concatenate((breaks, returns[points[returns + 1] != _NEWLINE])))
