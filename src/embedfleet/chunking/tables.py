"""Finds the rows of Markdown tables: pipes between the cells, a line of dashes below the header row."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import Characters
from embedfleet.chunking.lines import Lines

LONGEST_HEADER = 1024
"""A longer line is no header row. Also bounds how far ahead the scanner must look."""

_LONGEST_ROW = 512
"""A longer row has prose in its cells, which is cut at sentences."""

_PIPE = ord("|")
_DASHES = np.array([ord(character) for character in "-:"])
_BLANKS = np.array([ord(character) for character in " \t"])


def is_delimiter_row(content: str) -> bool:
    """Whether the line can be the one below a header row, such as `|---|:-:|`."""
    return (
        len(content) <= LONGEST_HEADER and "|" in content and "-" in content and content.strip("|:- \t") == ""
    )


def header_row(content: str) -> str:
    """The header row without the white space that aligns its cells."""
    return " ".join(content.split())


class TableLines:
    """Tells which lines of a text may belong to a table."""

    def __init__(self, characters: Characters, lines: Lines) -> None:
        self._points = characters.points
        self._lines = lines
        last = len(self._points) - 1
        self._begins_with_pipe = self._points[lines.texts] == _PIPE
        second = self._points[np.minimum(lines.texts + 1, last)]
        third = self._points[np.minimum(lines.texts + 2, last)]
        after_blank = np.isin(second, _BLANKS) & (np.isin(third, _DASHES) | np.isin(third, _BLANKS))
        self.may_be_delimiters: NDArray[np.bool_] = self._begins_with_pipe & (
            np.isin(second, _DASHES) | after_blank
        )
        """bool (n_lines,): the lines that begin with a pipe and may be a delimiter row."""

    def rows_end(self, first: int, header: str, *, in_line: bool = False) -> int:
        """The line after the last row of a table whose next row is the line `first`, if it is one.

        `in_line`: the text begins inside of the line `first`, which therefore is a row. A table whose header
        row begins with a pipe ends before the first line that does not; any other, before one without a pipe.
        """
        ends = self._ends_of_piped if header[0] == "|" else self._ends_of_open
        found = int(np.searchsorted(ends, first + 1 if in_line else first))
        return int(ends[found]) if found < len(ends) else len(self._lines)

    @cached_property
    def _ends_of_piped(self) -> NDArray[np.int64]:
        """The lines before which a table ends whose rows begin with a pipe."""
        return np.flatnonzero(self._lines.after_blank | ~self._begins_with_pipe)

    @cached_property
    def _ends_of_open(self) -> NDArray[np.int64]:
        """The lines before which a table ends whose rows have pipes only between their cells."""
        pipes = np.flatnonzero(self._points == _PIPE)
        before, through = (np.searchsorted(pipes, edges) for edges in (self._lines.texts, self._lines.ends))
        return np.flatnonzero(self._lines.after_blank | (before == through))

    def short_rows(self, first: int, end: int) -> list[int]:
        """The lines from `first` to `end` that are no longer than a row of short cells."""
        lengths = self._lines.ends[first:end] - self._lines.texts[first:end]
        found: list[int] = (np.flatnonzero(lengths <= _LONGEST_ROW) + first).tolist()
        return found
