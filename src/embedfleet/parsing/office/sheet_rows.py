"""Rows of a sheet of a workbook as tables: each row becomes a paragraph of `header: value` lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from embedfleet.parsing.delimited import write_rows
from embedfleet.parsing.draft import Draft

_NUMBER = re.compile(r"[-+(]?[$€£¥]?\s?\d[\d.,:%/ -]*\)?")

Row = list[str]


def write_sheet(rows: Sequence[Row], draft: Draft) -> None:
    """Write the rows of a sheet. Rows without text separate tables; columns without text are left out."""
    for table in _tables(rows):
        used = sorted({place for row in table for place, cell in enumerate(row) if cell.strip()})
        first, last = used[0], used[-1] + 1
        write_rows([[*row[first:last], *[""] * (last - max(len(row), first))] for row in table], draft)


def with_group_names(rows: list[Row], wide: dict[int, list[tuple[int, int]]]) -> list[Row]:
    """Return the rows with a header of two rows made one: "2020 Q1" for "2020" above "Q1" and "Q2".

    `wide`: the merged cells that go over several columns, by the number of their row: their first and their
    last column.
    """
    for number, spans in wide.items():
        below = rows[number + 1] if number + 1 < len(rows) else []
        names = rows[number]
        filled = sum(bool(cell.strip()) for cell in names)
        # A single wide cell is a title. Numbers below are data: then there is one row of names.
        if filled < 2 or not below or any(map(_is_number, below)):
            continue
        for first, last in spans:
            names[first : last + 1] = [names[first]] * (last + 1 - first)
        width = max(len(names), len(below))
        pairs = zip(_padded(names, width), _padded(below, width), strict=True)
        rows[number + 1] = [" ".join(dict.fromkeys(filter(None, pair))) for pair in pairs]
        rows[number] = []
        break
    return rows


def _tables(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the tables that stand below each other in a sheet, without blank rows."""
    table: list[Row] = []
    after_blank = False
    for number, row in enumerate(rows):
        if not any(cell.strip() for cell in row):
            after_blank = True
            continue
        following = rows[number + 1] if number + 1 < len(rows) else []
        if table and after_blank and _begins_table(table[-1], row, following):
            yield table
            table = []
        table.append(row)
        after_blank = False
    if table:
        yield table


def _begins_table(above: Row, row: Row, below: Row) -> bool:
    """Whether a row after a blank one names columns: words, where the rows above and below have numbers."""
    if any(map(_is_number, row)):
        return False
    places = range(min(len(above), len(row), len(below)))
    return any(row[i].strip() and _is_number(above[i]) and _is_number(below[i]) for i in places)


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _padded(row: Row, width: int) -> Row:
    return [*row, *[""] * (width - len(row))]
