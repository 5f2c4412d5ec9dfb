"""Writes lines as Markdown: headings by the size of their letters, paragraphs, lists, code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from embedfleet.parsing.pdf.lines import Line
from embedfleet.parsing.pdf.tables import LEADER, Table, is_marker, table_at

_LARGER = 1.12  # of the size of the text: a heading
_HEADING_WORDS = 16
_PITCH = 1.35  # of the usual distance between lines: a wider one ends a paragraph
_LEADING = 1.1  # of the size of the letters: the usual distance where few lines tell
_WIDEST_PITCH = 2.4  # of the size of the letters: double-spaced lines
_INDENT = 1.0  # of the size of the letters: the first line of a paragraph begins further in
_SHORT = 0.75  # of the width of the column: a line that ends a sentence there ends a paragraph
_FULL_LINE = 30  # letters: a shorter line at the end of a page is a whole paragraph
_SENTENCE_END = re.compile(r"[.!?:…。！？]['\"”’)\]]*$")
_HYPHEN = "\u00ad"
_NUMBERED = re.compile(r"\d+(\.\d+)*\.?\s")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, table or piece of code as Markdown. `open`: a paragraph that may go on."""

    text: str
    open: bool = False


class Layout:
    """How a document is set: the size of most of its letters, and the sizes of its headings."""

    def __init__(self, lines: Sequence[Line]) -> None:
        letters: Counter[float] = Counter()
        for line in lines:
            letters[line.size] += line.letters
        self.size = letters.most_common(1)[0][0] if letters else 0.0
        larger = sorted((size for size in letters if size > _LARGER * self.size), reverse=True)
        self._levels = {size: min(level, 6) for level, size in enumerate(larger, 1)}

    def level(self, line: Line) -> int | None:
        """The level of the heading that the line is; None for text."""
        if len(line.words) > _HEADING_WORDS or line.text.endswith((",", ";")):
            return None
        if line.size in self._levels and any(map(str.isalpha, line.text)):
            return self._levels[line.size]
        if line.bold and not line.mono and (_NUMBERED.match(line.text) or len(line.words) <= 8):
            ends = _SENTENCE_END.search(line.text)
            return None if ends or not any(map(str.isalpha, line.text)) else len(self._levels) + 1
        return None


def blocks_of(lines: Sequence[Line], layout: Layout) -> Iterator[Block]:
    """Yield the blocks that the lines of one column make, in order."""
    if not lines:
        return
    column = _Column(lines, layout)
    place = 0
    while place < len(lines):
        found = table_at(lines, place)
        if found is not None:
            table, place = found
            yield Block(_markdown_table(table))
            continue
        past = column.end_of_block(place)
        yield _block(lines[place:past], layout)
        place = past


class _Column:
    """The lines of a column, and how it is set."""

    def __init__(self, lines: Sequence[Line], layout: Layout) -> None:
        self._lines = lines
        self._layout = layout
        self._left, self._right = min(line.x0 for line in lines), max(line.x1 for line in lines)
        pitches = Counter(round(after.baseline - line.baseline, 1) for line, after in pairwise(lines))
        self._pitch = pitches.most_common(1)[0][0] if pitches else 0.0

    def end_of_block(self, start: int) -> int:
        """The place after the last line of the block that begins with the line at `start`."""
        past = start + 1
        while past < len(self._lines) and self._is_joined(past, self._lines[start]):
            past += 1
        return past

    def _is_joined(self, place: int, first: Line) -> bool:
        """Whether the line at this place is of the block of the line before it, which begins with `first`."""
        line, before = self._lines[place], self._lines[place - 1]
        size = max(line.size, before.size)
        # Headings of large letters have wider lines, and lines far apart are each of their own.
        widest = min(_PITCH * max(self._pitch, _LEADING * size), _WIDEST_PITCH * size)
        level = self._layout.level(first)
        if line.baseline - before.baseline > widest or self._layout.level(line) != level:
            return False
        if first.mono != line.mono or is_marker(line.words[0].text) or LEADER.search(before.text):
            return False
        return level is not None or first.mono or not self._begins_paragraph(line, before, first)

    def _begins_paragraph(self, line: Line, before: Line, first: Line) -> bool:
        indent = _INDENT * line.size
        flush = before.x0 - self._left < indent and not is_marker(first.words[0].text)
        indented = line.x0 - before.x0 > indent and line.x0 - self._left > indent
        short = before.x1 < self._left + _SHORT * (self._right - self._left)
        return (indented and flush) or (short and bool(_SENTENCE_END.search(before.text)))


def _block(lines: Sequence[Line], layout: Layout) -> Block:
    level = layout.level(lines[0])
    if level is not None:
        return Block(f"{'#' * min(level, 6)} {joined(lines)}")
    if all(line.mono for line in lines) and len(lines) > 1:
        left = min(line.x0 for line in lines)
        width = max(lines[0].size * 0.6, 1.0)
        code = "\n".join(" " * min(round((line.x0 - left) / width), 80) + line.text for line in lines)
        return Block(f"```\n{code}\n```")
    text = joined(lines)
    is_full = lines[-1].letters >= _FULL_LINE
    return Block(text, open=is_full and not _SENTENCE_END.search(text))


def joined(lines: Sequence[Line]) -> str:
    """The lines as one. A word that is divided at the end of a line is whole again."""
    text = ""
    for line in lines:
        text = continued(text, LEADER.sub(" … ", line.text))
    return text.removesuffix(_HYPHEN)


def continued(text: str, more: str) -> str:
    """The text with what follows it in the next line."""
    if not text:
        return more
    if text.endswith(_HYPHEN):
        return text[:-1] + more
    if text.endswith("-") and more[:1].islower() and text[-2:-1].isalpha():
        return text[:-1] + more
    return f"{text} {more}"


def _markdown_table(table: Table) -> str:
    rows = [[cell.replace("|", "\\|").replace(_HYPHEN, "") for cell in row] for row in table.rows]
    written = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([written[0], "|" + " --- |" * len(rows[0]), *written[1:]])
