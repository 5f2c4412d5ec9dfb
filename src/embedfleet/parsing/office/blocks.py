"""The blocks that office documents are made of, and how they are written as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedfleet.parsing.draft import Draft

_MAX_LEVEL = 6
"""Markdown has six levels of headings."""
_MAX_INDENT = 8
"""Deeper items are not indented any further. Word has nine levels."""
# What would begin a heading or a fence of code at the start of a line of a paragraph, or underline the line
# above as a heading.
_MARKUP_AT_START = re.compile(r"^( {0,3})(?=#{1,6}(?:[ \t]|$)|`{3}|~{3}|(?:=+|-{2,})[ \t]*$)", re.MULTILINE)
_INVISIBLE = str.maketrans({"\r": None, "\0": None, "\u00ad": None})  # U+00AD: where a word may be broken
_SPACES = re.compile(r"[ \t]*\n[ \t]*")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; `level` is from 1."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list; `level` is from 0, `label` is what stands before it: "-", "3.", "b)"."""

    level: int
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A paragraph of a code listing. Neighbours make one listing."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells of one line each; the first `header_rows` of them name the columns."""

    rows: Sequence[Sequence[str]]
    header_rows: int = 1


Block = Heading | Paragraph | Item | CodeLine | Table


def visible(text: str) -> str:
    """Return the text without characters that no reader sees, such as soft hyphens."""
    return text.translate(_INVISIBLE)


def in_one_line(blocks: Iterable[Block]) -> str:
    """Return the text of blocks as one line, for a cell of a table or a note."""
    return " ".join(line for block in blocks if (line := _line_of(block)))


def _line_of(block: Block) -> str:
    match block:
        case Table():
            rows = (", ".join(filter(None, row)) for row in block.rows)
            return "; ".join(filter(None, rows))
        case Item():
            return " ".join(f"{block.label} {block.text}".split())
        case _:
            return " ".join(block.text.split())


class BlockWriter:
    """Writes blocks to a draft, a blank line between them. Notes follow at the end of their section."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._last: Block | None = None
        self._notes: list[str] = []
        self.first_text = ""
        """The text of the first block that was written."""

    def add(self, block: Block) -> None:
        """Write a block. Blocks without text are left out."""
        if isinstance(block, Heading):
            self.flush_notes()
        text = markdown(block)
        if not text.strip():
            return
        if self._last is None:
            self.first_text = _line_of(block)
        is_listing = isinstance(block, CodeLine)
        if isinstance(self._last, CodeLine) and not is_listing:
            self._draft.write("```\n")
        if self._last is not None and not _joins(self._last, block):
            self._draft.write("\n")
        if is_listing and not isinstance(self._last, CodeLine):
            self._draft.write("```\n")
        self._draft.write(text + "\n")
        self._last = block

    def add_note(self, label: str, text: str) -> None:
        """Write a note when its section ends: `[^label]: text`."""
        if text:
            self._notes.append(f"[^{label}]: {text}")

    def flush_notes(self) -> None:
        """Write the notes of what was written so far."""
        notes, self._notes = self._notes, []
        for note in notes:
            self.add(Paragraph(note))

    def begin_page(self, number: int) -> None:
        """What is written from here on is on this page or slide."""
        self._end_listing()
        if self._last is not None:
            self._draft.write("\n")
            self._last = None
        self._draft.begin_page(number)

    def end(self) -> None:
        """Write what is pending. Nothing may be added afterwards."""
        self.flush_notes()
        self._end_listing()

    def _end_listing(self) -> None:
        if isinstance(self._last, CodeLine):
            self._draft.write("```\n")
            self._last = Paragraph("")


def _joins(above: Block, below: Block) -> bool:
    """Whether no blank line belongs between two blocks."""
    return type(above) is type(below) and isinstance(below, Item | CodeLine)


def markdown(block: Block) -> str:
    """Return a block as Markdown, without the end of its last line; "" if it has no text."""
    match block:
        case Heading():
            text = " ".join(block.text.split())
            return f"{'#' * min(block.level, _MAX_LEVEL)} {text}" if text else ""
        case Paragraph():
            return _MARKUP_AT_START.sub(r"\1\\", _SPACES.sub("\n", block.text.strip()))
        case Item():
            text = " ".join(block.text.split())
            return f"{'  ' * min(block.level, _MAX_INDENT)}{block.label} {text}" if text else ""
        case CodeLine():
            return block.text.rstrip().replace("```", "` ` `") or " "
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    """Return a table with one line for its header, which is empty if it has none."""
    columns = max(map(len, table.rows), default=0)
    if not columns:
        return ""
    header, body = _joined(table.rows[: table.header_rows], columns), table.rows[table.header_rows :]
    lines = [_row(header, columns), "|" + " --- |" * columns]
    lines += [_row(row, columns) for row in body if any(row)]
    return "\n".join(lines) if any(header) or len(lines) > 2 else ""


def _joined(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Return one row of several: in each column the texts that differ, "2020 Q1" of "2020" above "Q1"."""
    cells: list[list[str]] = [[] for _ in range(columns)]
    for row in rows:
        for column, cell in enumerate(row):
            if cell and cell not in cells[column]:
                cells[column].append(cell)
    return [" ".join(texts) for texts in cells]


def _row(cells: Sequence[str], columns: int) -> str:
    padded = [*cells, *[""] * (columns - len(cells))]
    return "|" + "".join(f" {cell.replace('|', chr(92) + '|')} |" if cell else " |" for cell in padded)
