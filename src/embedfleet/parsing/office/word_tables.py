"""Tables of Word documents as rows of cells, each merged cell with its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.office.alternatives import ALTERNATIVES, chosen
from embedfleet.parsing.office.blocks import Block, Heading, Paragraph, Table, in_one_line
from embedfleet.parsing.office.word_styles import whole_number
from embedfleet.parsing.office.xml_part import is_on
from embedfleet.visible_text import letters_in

_MOST_COLUMNS = 63
"""Word has no wider tables."""
_LONGEST_SHORT_CELL = 80
"""Characters; a row of longer cells is a layout of the page, not a record."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell: its blocks, over how many columns it goes, and whether it continues the cell above it."""

    blocks: list[Block]
    columns: int
    continues: bool

    @property
    def text(self) -> str:
        return in_one_line(self.blocks)


@dataclass(frozen=True, slots=True)
class _Row:
    cells: list[_Cell]
    before: int
    is_header: bool

    @property
    def columns(self) -> int:
        return self.before + sum(cell.columns for cell in self.cells)


def table_blocks(
    table: Element, blocks_of: Callable[[Element], Iterator[Block]], draft: Draft
) -> Iterator[Block]:
    """Yield a table: as rows, or as the blocks of its cells if it only lays out the page."""
    rows = [_row(row, blocks_of) for row in _rows(table, draft)]
    columns = max((row.columns for row in rows), default=0)
    while columns > 1 and len(rows) > 1 and len(rows[0].cells) == 1 and rows[0].columns == columns:
        yield Paragraph(rows.pop(0).cells[0].text)  # a title above the columns
    if _is_layout(rows, columns):
        for row in rows:
            for cell in row.cells:
                yield from cell.blocks
    elif len(rows) == 1:
        yield Paragraph(" | ".join(cell.text for cell in rows[0].cells if cell.text))
    else:
        headers = next((place for place, row in enumerate(rows) if not row.is_header), len(rows))
        headers = max(1, headers if headers < len(rows) else 1)
        yield Table(_filled(rows, headers), headers)


def _is_layout(rows: list[_Row], columns: int) -> bool:
    blocks = [block for row in rows for cell in row.cells for block in cell.blocks]
    if columns <= 1 or any(isinstance(block, Heading) for block in blocks):
        return True
    return len(rows) == 1 and any(len(cell.text) > _LONGEST_SHORT_CELL for cell in rows[0].cells)


def _filled(rows: list[_Row], headers: int) -> list[list[str]]:
    """Return the texts of all cells. A cell that goes over several rows has its text in each of them, as a
    row is read alone; one that goes over several columns only in the header."""
    filled: list[list[str]] = []
    for number, row in enumerate(rows):
        texts = [""] * row.before
        for cell in row.cells:
            place = len(texts)
            text = cell.text
            if cell.continues and not text and filled and place < len(filled[-1]):
                text = filled[-1][place]
            repeated = text if number < headers else ""
            texts += [text, *[repeated] * (cell.columns - 1)]
        filled.append(texts)
    return filled


def _rows(table: Element, draft: Draft) -> Iterator[Element]:
    for row in _children(table, "w:tr"):
        properties = row.find("w:trPr")
        deleted = properties is not None and properties.find("w:del") is not None
        hidden = properties is not None and is_on(properties.find("w:hidden"))
        if not (deleted or hidden):
            yield row
            continue
        texts = "".join(text.text or "" for tag in ("w:t", "w:delText") for text in row.iter(tag))
        if deleted:
            draft.note(Code.OFFICE_DELETED, chars=letters_in(texts))
        else:
            draft.note(Code.HIDDEN, chars=letters_in(texts), place="hidden row")


def _row(row: Element, blocks_of: Callable[[Element], Iterator[Block]]) -> _Row:
    properties = row.find("w:trPr")
    before = 0 if properties is None else min(_number(properties, "w:gridBefore", 0), _MOST_COLUMNS)
    is_header = properties is not None and is_on(properties.find("w:tblHeader"))
    cells: list[_Cell] = []
    room = _MOST_COLUMNS - before
    for cell in _children(row, "w:tc"):
        own = cell.find("w:tcPr")
        span = 1 if own is None else min(_number(own, "w:gridSpan", 1), max(room, 1))
        merged = None if own is None else own.find("w:vMerge")
        room -= span
        continues = merged is not None and merged.get("w:val", "continue") == "continue"
        cells.append(_Cell(list(blocks_of(cell)), max(span, 1), continues))
    return _Row(cells, before, is_header)


def _number(properties: Element, tag: str, default: int) -> int:
    found = properties.find(tag)
    return default if found is None else whole_number(found.get("w:val"), default=default)


def _children(node: Element, tag: str) -> Iterator[Element]:
    """Yield the rows of a table or the cells of a row, also those within content controls and the like."""
    for child in node:
        if child.tag == tag:
            yield child
        elif child.tag in ("w:sdt", "w:sdtContent", "w:customXml", "w:ins", "w:moveTo"):
            yield from _children(child, tag)
        elif child.tag == ALTERNATIVES and (choice := chosen(child)) is not None:
            yield from _children(choice, tag)
