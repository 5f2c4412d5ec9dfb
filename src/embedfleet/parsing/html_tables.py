"""Prepares tables for Markdown, whose cells are one line each and never span rows."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

_LINE_NUMBERS = re.compile(r"\s*\d+(\s+\d+)*\s*")
_LAYOUT_ROWS = 3  # a table that lays out a page has a row for its head, body and foot
_BLOCKS_IN_CELLS = "td table, td h1, td h2, td h3, td ul, td ol, td blockquote, td pre + *, td p + p"
_MOST_COPIES = 10_000  # of cells that span rows, in a page: a hostile page asks for billions
_LAYOUT_ROWS = 3  # a table that lays out a page has a row for its head, body and foot
_MOST_ROWS = 1000  # that a cell may span


def prepare_tables(tree: LexborHTMLParser, body: LexborNode) -> None:
    """Make blocks of tables that lay out code or other tables; write cells that span rows in each of them."""
    # Decided before any is taken apart: a table that lays out others holds none of them afterwards.
    for table in reversed([one for one in body.css("table") if _lays_out(one)]):
        _as_blocks(tree, table)
    for block in body.css("td p, td pre, td div, td li, td dd, td dt, th p, th div"):
        block.insert_before(" ")  # the converter joins the blocks of a cell without a space
    copies = 0
    for cell in body.css("td[rowspan], th[rowspan]"):
        copies += _repeat_in_rows(cell, _MOST_COPIES - copies)


def _lays_out(table: LexborNode) -> bool:
    """Whether a table holds what no Markdown cell can: code of several lines, or blocks of its own."""
    if any("\n" in code.text().strip("\n") for code in table.css("pre")):
        return True
    if table.css_first("th") is not None or len(table.css("tr")) > _LAYOUT_ROWS:
        return False
    return table.css_first(_BLOCKS_IN_CELLS) is not None


def _as_blocks(tree: LexborHTMLParser, table: LexborNode) -> None:
    """Replace a table by its cells, one after the other, without those that only number the lines of code."""
    for cell in table.css("td, th"):
        if _LINE_NUMBERS.fullmatch(cell.text()) and cell.css_first("pre") is not None:
            cell.decompose()
    for part in table.css("td, th, caption"):
        _end_paragraph(tree, part)
        part.unwrap()
    for part in table.css("tr, tbody, thead, tfoot, colgroup"):
        part.unwrap()
    # What follows the table may be in no paragraph of its own.
    _end_paragraph(tree, table)
    for _ in range(2):
        table.insert_after(tree.create_node("br"))
    table.unwrap()


def _end_paragraph(tree: LexborHTMLParser, node: LexborNode) -> None:
    """End the paragraph before the element."""
    for _ in range(2):
        node.insert_before(tree.create_node("br"))


def _repeat_in_rows(cell: LexborNode, most: int) -> int:
    """Insert copies of a cell in the rows that it spans. Returns how many."""
    span = cell.attributes.get("rowspan") or ""
    rows = min(int(span), _MOST_ROWS) if span.isdigit() and len(span) < 9 else 1
    del cell.attrs["rowspan"]
    column = _column_of(cell)
    row = cell.parent
    copied = 0
    while copied < min(rows - 1, most) and row is not None and (row := _next_row(row)) is not None:
        place = next((one for one in _cells(row) if _column_of(one) >= column), None)
        if place is not None:
            place.insert_before(cell.clone())
        else:
            row.insert_child(cell.clone())
        copied += 1
    return copied


def _next_row(row: LexborNode) -> LexborNode | None:
    following = row.next
    while following is not None and following.tag != "tr":
        following = following.next
    return following


def _cells(row: LexborNode) -> list[LexborNode]:
    return [one for one in row.iter() if one.tag in ("td", "th")]


def _column_of(cell: LexborNode) -> int:
    """The number of the columns before the cell in its row."""
    before = 0
    for one in _cells(cell.parent) if cell.parent is not None else ():
        if one.mem_id == cell.mem_id:
            break
        span = one.attributes.get("colspan") or ""
        before += int(span) if span.isdigit() and len(span) < 4 else 1
    return before
