"""Reads headings, code fences, tables and front matter of Markdown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embedfleet.chunking.characters import Characters
from embedfleet.chunking.lines import UNMARKED, Context, Lines, Marks, Resume
from embedfleet.chunking.strength import Strength, heading_strength
from embedfleet.chunking.tables import LONGEST_HEADER, TableLines, header_row, is_delimiter_row

_CANDIDATES = np.array([ord(character) for character in "#=-`~:"])
_FRONT_MATTER = "---"
_LONGEST_FRONT_MATTER = 4096
_LONGEST_HEADING = 256
"""A longer line is text. Also bounds how far ahead the scanner must look."""
_MAX_HEADING_INDENT = 3
_SHORTEST_FENCE = 3
_SHORTEST_UNDERLINE = 2
_MAX_HASHES = 6
_GLUED = int(Strength.GLUED)


def read_markdown(characters: Characters, lines: Lines, resume: Resume) -> Marks:
    """Mark ATX and setext headings outside of code fences, and glue the text after a heading to it.

    The header row of a table and the line below it are one atom. Each further row is one too, if it is short.
    """
    tables = TableLines(characters, lines)
    reader = _Reader(characters.text, lines, resume, tables)
    reader.read_start()
    may_mark = np.isin(characters.points[lines.texts], _CANDIDATES) | tables.may_be_delimiters
    for line in np.flatnonzero(may_mark).tolist():
        if line > 0 or resume.column == 0:
            reader.read(line)
    return reader.finish()


class _Reader:
    def __init__(self, text: str, lines: Lines, resume: Resume, tables: TableLines) -> None:
        self._text = text
        self._lines = lines
        self._resume = resume
        self._context = resume.context
        self._fence_line = 0
        self._tables = tables
        # The rows of the open table are the lines from `_first_row` to `_rows_end`.
        self._first_row = self._rows_end = 0
        if resume.context.table_header:
            self._rows_end = tables.rows_end(0, resume.context.table_header, in_line=resume.column > 0)
        # Lists, as reading one element of an array takes a microsecond.
        self._starts: list[int] = lines.starts.tolist()
        self._strengths = [UNMARKED] * len(lines)
        self._literal = [False] * len(lines)
        self._contexts: list[tuple[int, Context]] = []
        if resume.strength == Strength.GLUED:
            self._strengths[0] = _GLUED

    def read_start(self) -> None:
        """Read YAML front matter: it begins on the first line, has a key below it, and ends not far below."""
        if not self._context.at_start:
            return
        first, below = self._line(0), self._line(1) if len(self._lines) > 1 else ""
        is_front_matter = (
            first == _FRONT_MATTER
            and ":" in below
            and self._text.find(f"\n{_FRONT_MATTER}", int(self._lines.ends[0]), _LONGEST_FRONT_MATTER) >= 0
        )
        fence = _FRONT_MATTER if is_front_matter else ""
        # At the line's start, not behind it: a heading on this line enters its context there, after this one.
        self._enter(self._starts[0], replace(self._context, fence=fence, at_start=False))

    def read(self, line: int) -> None:
        if self._context.table_header and line >= self._rows_end:
            self._close_table(self._rows_end)
        content = self._line(line)
        if self._context.fence:
            self._read_in_fence(line, content)
        elif content[0] in "|:-" and is_delimiter_row(content):
            self._read_delimiter_row(line)
        elif content[0] in "`~":
            self._open_fence(line, content)
        elif self._is_indented_code(line) or len(content) > _LONGEST_HEADING:
            return
        elif content[0] == "#":
            self._read_hashes(line, content)
        elif (
            content[0] in "=-" and content.strip(content[0]) == "" and self._can_be_underlined(line, content)
        ):
            self._heading(line - 1, line, 1 if content[0] == "=" else 2, self._line(line - 1))

    def _is_indented_code(self, line: int) -> bool:
        """Whether the line is indented like code; a tab is as wide as four spaces."""
        indent = self._text[self._lines.starts[line] : self._lines.texts[line]]
        return len(indent) > _MAX_HEADING_INDENT or "\t" in indent

    def finish(self) -> Marks:
        if self._context.table_header:
            self._close_table(self._rows_end)
        if self._context.fence:
            self._mark_literal(self._fence_line, len(self._lines))
        strengths = np.array(self._strengths, dtype=np.int8)
        literal = np.array(self._literal, dtype=np.bool_)
        inside = literal & (strengths == UNMARKED)
        strengths[inside] = np.where(self._lines.after_blank[inside], Strength.LINE, Strength.WRAP)
        return Marks(strengths, literal, self._contexts)

    def _line(self, line: int) -> str:
        return self._text[self._lines.texts[line] : self._lines.ends[line]]

    def _enter(self, offset: int, context: Context) -> None:
        self._context = context
        self._contexts.append((offset, context))

    def _read_in_fence(self, line: int, content: str) -> None:
        fence = self._context.fence
        is_first_line = line == 0 and fence == _FRONT_MATTER and self._contexts != []
        if is_first_line or not content.startswith(fence) or content.strip(fence[0]) != "":
            return
        self._mark_literal(self._fence_line, line + 1)
        self._set_strength(line, Strength.GLUED)
        self._set_strength(line + 1, Strength.PARAGRAPH)
        self._enter(self._starts[line], replace(self._context, fence=""))

    def _open_fence(self, line: int, content: str) -> None:
        rest = content.lstrip(content[0])
        fence = content[: len(content) - len(rest)]
        if len(fence) < _SHORTEST_FENCE or (fence[0] == "`" and "`" in rest):
            return
        self._set_strength(line, Strength.PARAGRAPH if self._lines.after_blank[line] else Strength.LINE)
        self._set_strength(line + 1, Strength.GLUED)
        self._fence_line = line
        self._close_table(line)
        self._enter(self._starts[line], replace(self._context, fence=fence))

    def _read_delimiter_row(self, line: int) -> None:
        """Begin a table: the line below its header row was found."""
        header = line - 1
        if self._context.table_header or not self._can_be_header_row(header):
            return
        row = header_row(self._line(header))
        self._strengths[line] = int(Strength.NONE)
        self._mark_literal(header, line + 1)
        self._set_strength(header, Strength.PARAGRAPH if self._lines.after_blank[header] else Strength.LINE)
        self._first_row = line + 1
        self._rows_end = self._tables.rows_end(line + 1, row)
        if self._rows_end > self._first_row:
            self._set_strength(self._first_row, Strength.GLUED)
        self._enter(int(self._lines.ends[line]), replace(self._context, table_header=row))

    def _can_be_header_row(self, line: int) -> bool:
        """Whether the line above a delimiter row is the header row of a table."""
        return bool(
            line >= 0
            and (line > 0 or self._resume.column == 0)
            and not self._lines.after_blank[line + 1]
            and not self._literal[line]
            and self._lines.indents[line] <= _MAX_HEADING_INDENT
            and self._lines.ends[line] - self._lines.texts[line] <= LONGEST_HEADER
            and "|" in self._line(line)
        )

    def _close_table(self, end: int) -> None:
        """Mark the rows of the open table up to the line `end`. The table goes on if the text ends there."""
        if not self._context.table_header:
            return
        short = self._tables.short_rows(self._first_row, end)
        for line in short:
            self._set_strength(line, Strength.LINE)
            self._literal[line] = True
        self._first_row = end
        if end < len(self._lines):
            self._enter(self._starts[end], replace(self._context, table_header=""))

    def _read_hashes(self, line: int, content: str) -> None:
        title = content.lstrip("#")
        level = len(content) - len(title)
        if level <= _MAX_HASHES and (not title or title[0] in " \t"):
            self._heading(line, line, level, _without_closing_hashes(title.strip()))

    def _can_be_underlined(self, line: int, content: str) -> bool:
        """Whether the line above is a paragraph of one plain line."""
        if line == 0 or self._lines.after_blank[line] or len(content) < _SHORTEST_UNDERLINE:
            return False
        above = line - 1
        opens = self._lines.after_blank[above] or self._strengths[above] in (
            Strength.GLUED,
            Strength.PARAGRAPH,
        )
        starts_line = above > 0 or self._resume.column == 0
        return bool(
            opens
            and starts_line
            and not self._literal[above]
            and not self._is_indented_code(above)
            and self._lines.ends[above] - self._lines.texts[above] <= _LONGEST_HEADING
            and self._line(above)[0] not in "#>|-*+=`~"
        )

    def _heading(self, first: int, last: int, level: int, title: str) -> None:
        self._set_strength(first, heading_strength(level))
        if last > first:
            self._strengths[last] = int(Strength.NONE)
        self._mark_literal(first, last + 1)
        self._set_strength(last + 1, Strength.GLUED)
        self._close_table(first)
        headings = self._context.under(level, title)
        self._enter(self._starts[first], replace(self._context, headings=headings))

    def _set_strength(self, line: int, strength: Strength) -> None:
        """Set the strength of a line. A glued line stays glued, and lines beyond the text are ignored."""
        if line < len(self._strengths) and self._strengths[line] != _GLUED:
            self._strengths[line] = int(strength)

    def _mark_literal(self, first: int, end: int) -> None:
        self._literal[first:end] = [True] * (end - first)


def _without_closing_hashes(title: str) -> str:
    bare = title.rstrip("#")
    return bare.rstrip() if bare == "" or bare[-1] in " \t" else title
