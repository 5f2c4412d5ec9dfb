"""A page of Markdown, as the readers of other markup languages write it, and what they leave out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.visible_text import letters_in

_LOOKS_LIKE_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_LOOKS_LIKE_UNDERLINE = re.compile(r" {0,3}(?:={2,}|-{2,})\s*$")
_TICKS = re.compile(r"`{3,}")
_DEEPEST = 6


class Page:
    """Collects lines. A line of text never becomes a heading by how it looks."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left: dict[Code, list[str]] = {}
        self.title: str | None = None

    def text(self, line: str) -> None:
        """Add a line of running text; "" for a blank line."""
        if _LOOKS_LIKE_HEADING.match(line):
            line = line.replace("#", r"\#", 1)
        elif _LOOKS_LIKE_UNDERLINE.match(line):
            self.blank()
        if line.strip() or (self._lines and self._lines[-1]):
            self._lines.append(line.rstrip())

    def blank(self) -> None:
        """End the paragraph."""
        self.text("")

    def heading(self, level: int, title: str) -> None:
        """Add a heading, from level 1."""
        self.blank()
        self._lines += [f"{'#' * min(level, _DEEPEST)} {' '.join(title.split())}", ""]

    def code(self, lines: Sequence[str], language: str = "") -> None:
        """Add lines of code as they are, but for the indentation that all have."""
        while lines and not lines[0].strip():
            lines = lines[1:]
        while lines and not lines[-1].strip():
            lines = lines[:-1]
        if not lines:
            return
        indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        ticks = max((len(run) for line in lines for run in _TICKS.findall(line)), default=2) + 1
        self.blank()
        self._lines += ["`" * ticks + language, *(line[indent:] for line in lines), "`" * ticks, ""]

    def row(self, cells: Sequence[str], *, first: bool) -> None:
        """Add a row of a table; the first one is its header."""
        self._lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |")
        if first:
            self._lines.append("|" + "---|" * len(cells))

    def leave_out(self, code: Code, text: str) -> None:
        """Note what the page does not show."""
        self._left.setdefault(code, []).append(text)

    def write(self, draft: Draft) -> None:
        """Write all of it."""
        draft.write("\n".join(self._lines).strip("\n") + "\n")
        draft.title = self.title
        for code, texts in self._left.items():
            if code is Code.OTHER_FILE:
                for name in texts:
                    draft.note(code, chars=None, place=name)
            else:
                draft.note(code, count=len(texts), chars=sum(map(letters_in, texts)))
