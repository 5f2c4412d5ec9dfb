"""Prepares code for Markdown: its lines stay lines, and the numbers beside them are dropped."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

_NUMBERS = ".lineno, .linenos, .ln, .lnt, .line-number, .line-numbers, .line-numbers-rows, .hljs-ln-numbers"
_NUMBER_CLASS = re.compile(r"num|lineno|gutter|lnt|linenr", re.IGNORECASE)
_CODE_CLASS = re.compile(r"code|highlight|blob|source|line", re.IGNORECASE)
_LINES = "div.line, span.line, li.line"
_FEWEST_LINES = 2  # a table of one row with a number is data


def prepare_code(tree: LexborHTMLParser, body: LexborNode) -> None:
    """Give code its line breaks, drop line numbers, and make one block of a table that has a row for each
    line."""
    for line_break in body.css("pre br"):
        line_break.replace_with("\n")
    for number in reversed(body.css(f":is(pre, code) :is({_NUMBERS})")):
        if not number.text().strip() or number.text().strip().isdecimal():
            number.decompose()
    for table in reversed(body.css("table")):
        lines = _lines_of_rows(table) or _lines_of_cell(table)
        if lines is not None:
            _as_block(tree, table, lines)


def _as_block(tree: LexborHTMLParser, table: LexborNode, lines: list[str]) -> None:
    table.insert_before(tree.create_node("pre"))
    block = table.prev
    assert block is not None
    block.insert_child("\n".join(lines))
    table.decompose()


def _lines_of_rows(table: LexborNode) -> list[str] | None:
    """The lines of a table that has a row for each: its number, or an empty cell for it, and the code."""
    rows = table.css("tr")
    if len(rows) < _FEWEST_LINES or table.css_first("th") is not None or len(table.css("table")) > 1:
        return None
    lines: list[str] = []
    for row in rows:
        cells = [one for one in row.iter() if one.tag == "td"]
        if len(cells) != 2 or not _is_number(cells[0]) or not _is_code(table, cells):
            return None
        lines.append(cells[1].text().strip("\n"))
    return lines


def _is_number(cell: LexborNode) -> bool:
    """Whether a cell has nothing but the number of a line, which may be in an attribute."""
    text = cell.text().strip()
    return text.isdecimal() or (not text and "data-line-number" in cell.attributes)


def _is_code(table: LexborNode, cells: list[LexborNode]) -> bool:
    number, code = (cell.attributes.get("class") or "" for cell in cells)
    around = table.attributes.get("class") or ""
    is_number = _NUMBER_CLASS.search(number) or "data-line-number" in cells[0].attributes
    return bool(is_number and (_CODE_CLASS.search(code) or _CODE_CLASS.search(around)))


def _lines_of_cell(table: LexborNode) -> list[str] | None:
    """The lines of a table with one row: a cell with all numbers, and one with an element for each line."""
    if len(table.css("tr")) != 1 or table.css_first("pre") is not None or len(table.css("table")) > 1:
        return None
    cells = table.css("td")
    if len(cells) != 2 or not _NUMBER_CLASS.search(cells[0].attributes.get("class") or ""):
        return None
    lines = [line.text().replace("\xa0", " ") for line in cells[1].css(_LINES)]
    return lines if len(lines) >= _FEWEST_LINES else None
