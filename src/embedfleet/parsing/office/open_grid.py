"""The cells of a table or sheet of an OpenDocument file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.office.word_styles import whole_number
from embedfleet.visible_text import letters_in

_MOST_COLUMNS = 16_384
_MOST_ROWS = 1_048_576
_HIDDEN = ("collapse", "filter")
_CELLS = ("table:table-cell", "table:covered-table-cell")


@dataclass
class Grid:
    """Rows of cells; `headers` of them are marked as headers. `wide`: merged cells as in `sheet_rows`."""

    rows: list[list[str]] = field(default_factory=list)
    headers: int = 0
    wide: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    hidden: int = 0
    hidden_chars: int = 0

    def note_hidden(self, draft: Draft, name: str) -> None:
        """Note the rows and columns with text that are hidden."""
        if self.hidden_chars:
            place = f"rows and columns of {name}"
            draft.note(Code.HIDDEN, count=self.hidden, chars=self.hidden_chars, place=place)


def grid_of(table: Element, text_of: Callable[[Element], str]) -> Grid:
    """Return the cells of a table. A cell that goes over several rows has its text in each of them."""
    grid = Grid()
    hidden_columns = _hidden_columns(table)
    below: dict[int, tuple[int, str]] = {}  # of merged cells by column: how many rows follow, and the text
    for row, is_header in _rows(table, is_header=False):
        cells = _row(row, text_of, below, grid, len(grid.rows))
        chars = sum(map(letters_in, cells))
        if row.get("table:visibility") in _HIDDEN:
            grid.hidden += 1 if chars else 0
            grid.hidden_chars += chars
            cells = []
        for column in hidden_columns.intersection(range(len(cells))):
            grid.hidden_chars += letters_in(cells[column])
            cells[column] = ""
        repeated = whole_number(row.get("table:number-rows-repeated"), default=1) if any(cells) else 1
        grid.rows.extend([cells] * min(repeated, _MOST_ROWS - len(grid.rows)))
        grid.headers += is_header
    grid.hidden += len(hidden_columns) if grid.hidden_chars else 0
    return grid


def _row(
    row: Element,
    text_of: Callable[[Element], str],
    below: dict[int, tuple[int, str]],
    grid: Grid,
    number: int,
) -> list[str]:
    cells: list[str] = []
    blanks = 0
    for cell in row:
        if cell.tag not in _CELLS:
            continue
        repeated = whole_number(cell.get("table:number-columns-repeated"), default=1)
        column = len(cells) + blanks
        text = text_of(cell) if cell.tag == _CELLS[0] else ""
        following, above = below.get(column, (0, ""))
        if following and cell.tag == _CELLS[1]:
            below[column] = (following - 1, above)
            text = above
        down = whole_number(cell.get("table:number-rows-spanned"), default=1)
        if down > 1:
            below[column] = (down - 1, text)
        across = whole_number(cell.get("table:number-columns-spanned"), default=1)
        if across > 1:
            grid.wide.setdefault(number, []).append((column, min(column + across, _MOST_COLUMNS) - 1))
        room = _MOST_COLUMNS - column
        if text:
            cells += [""] * blanks + [text] * min(repeated, room)
            blanks = 0
        else:
            blanks += min(repeated, max(room, 0))
    return cells


def _rows(node: Element, *, is_header: bool) -> Iterator[tuple[Element, bool]]:
    for child in node:
        if child.tag == "table:table-row":
            yield child, is_header
        elif child.tag in ("table:table-rows", "table:table-row-group"):
            yield from _rows(child, is_header=is_header)
        elif child.tag == "table:table-header-rows":
            yield from _rows(child, is_header=True)


def _hidden_columns(table: Element) -> set[int]:
    hidden: set[int] = set()
    column = 0
    for one in table.iter("table:table-column"):
        repeated = min(whole_number(one.get("table:number-columns-repeated"), default=1), _MOST_COLUMNS)
        if one.get("table:visibility") in _HIDDEN:
            hidden.update(range(column, min(column + repeated, _MOST_COLUMNS)))
        column = min(column + repeated, _MOST_COLUMNS)
    return hidden
