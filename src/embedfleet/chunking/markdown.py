"""Reads headings, code fences and front matter of Markdown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embedfleet.chunking.characters import Characters
from embedfleet.chunking.lines import UNMARKED, Context, Lines, Marks, Resume
from embedfleet.chunking.strength import Strength, heading_strength

_CANDIDATES = np.array([ord(character) for character in "#=-`~"])
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
    """Mark ATX and setext headings outside of code fences, and glue the text after a heading to it."""
    reader = _Reader(characters.text, lines, resume)
    reader.read_start()
    for line in np.flatnonzero(np.isin(characters.points[lines.texts], _CANDIDATES)).tolist():
        if line > 0 or resume.column == 0:
            reader.read(line)
    return reader.finish()


class _Reader:
    def __init__(self, text: str, lines: Lines, resume: Resume) -> None:
        self._text = text
        self._lines = lines
        self._resume = resume
        self._context = resume.context
        self._fence_line = 0
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
        content = self._line(line)
        if self._context.fence:
            self._read_in_fence(line, content)
        elif content[0] in "`~":
            self._open_fence(line, content)
        elif self._lines.indents[line] > _MAX_HEADING_INDENT or len(content) > _LONGEST_HEADING:
            return
        elif content[0] == "#":
            self._read_hashes(line, content)
        elif content.strip(content[0]) == "" and self._can_be_underlined(line, content):
            self._heading(line - 1, line, 1 if content[0] == "=" else 2, self._line(line - 1))

    def finish(self) -> Marks:
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
        self._enter(self._starts[line], replace(self._context, fence=fence))

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
            and self._lines.indents[above] <= _MAX_HEADING_INDENT
            and self._lines.ends[above] - self._lines.texts[above] <= _LONGEST_HEADING
            and self._line(above)[0] not in "#>|-*+=`~"
        )

    def _heading(self, first: int, last: int, level: int, title: str) -> None:
        self._set_strength(first, heading_strength(level))
        if last > first:
            self._strengths[last] = int(Strength.NONE)
        self._mark_literal(first, last + 1)
        self._set_strength(last + 1, Strength.GLUED)
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
