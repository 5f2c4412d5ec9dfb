"""Finds tables: lines of which the gaps stand one below the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from embedfleet.parsing.pdf.lines import Line, Segment

_SEPARATION = 0.5  # of the size of the letters: the least distance between two columns
_FEWEST_ROWS = 3  # two lines may have a gap at one place by chance
_ROW_PITCH = 3.5  # of the size of the letters: the widest distance between the lines of a table
_WRAPPED_PITCH = 1.4  # lines of one cell are that near
_FILLED = 0.34  # share of the rows in which a column has a cell
# What stands before an item of a list with a gap behind it, as a column would.
_MARKER = re.compile(
    r"(?:[•‣◦▪▫■□●○–—\-*o·➢✓❖]|\(?[0-9ivxlcIVXLC]{1,5}[.)\]:]"
    r"|\(?[A-Za-z][.)]|\[\w{1,12}\])$"
)
LEADER = re.compile(r"(?:\s*\.){4,}\s*|(?:\s*…){2,}\s*")


@dataclass(frozen=True, slots=True)
class Column:
    """The strip of a page that a column of a table takes."""

    x0: float
    x1: float


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, from top to bottom; the first is the header."""

    columns: tuple[Column, ...]
    rows: list[list[str]]


def is_marker(text: str) -> bool:
    """Return whether this is the bullet or the number before an item of a list."""
    return bool(_MARKER.match(text))


def table_at(lines: Sequence[Line], start: int) -> tuple[Table, int] | None:
    """Return the table that begins with the line at `start`, and the index of the line after it."""
    if not _may_be_row(lines[start]):
        return None
    columns: list[Column] = []
    past = start
    for index in range(start, len(lines)):
        if index > start and not _follows(lines[index], lines[index - 1]):
            break
        wider = _with_segments(columns, lines[index].segments, lines[index].size)
        if len(wider) < 2 or (columns and not _belongs(lines[index], columns, wider)):
            break
        columns, past = wider, index + 1
    while past > start and len(lines[past - 1].segments) < 2 and not _fits(lines[past - 1], columns):
        past -= 1
    chosen = lines[start:past]
    if len(chosen) < 2 or not _is_table(chosen, columns):
        return None
    return Table(tuple(columns), _rows(chosen, columns)), past


def _may_be_row(line: Line) -> bool:
    if len(line.segments) < 2 or LEADER.search(line.text) or line.mono:
        return False
    return not (len(line.segments) == 2 and is_marker(line.segments[0].text))


def _follows(line: Line, before: Line) -> bool:
    if LEADER.search(line.text) or (len(line.segments) == 2 and is_marker(line.segments[0].text)):
        return False
    return line.baseline - before.baseline <= _ROW_PITCH * max(line.size, before.size)


def _with_segments(columns: Sequence[Column], segments: Sequence[Segment], size: float) -> list[Column]:
    """The columns, each as wide as its widest cell, if these segments are cells, too."""
    taken = [(one.x0, one.x1) for one in columns] + [(one.x0, one.x1) for one in segments]
    strips = sorted(taken)
    merged = [strips[0]]
    for x0, x1 in strips[1:]:
        if x0 - merged[-1][1] < _SEPARATION * size:
            merged[-1] = (merged[-1][0], max(merged[-1][1], x1))
        else:
            merged.append((x0, x1))
    return [Column(x0, x1) for x0, x1 in merged]


def _belongs(line: Line, columns: Sequence[Column], wider: Sequence[Column]) -> bool:
    """Whether the line is a row of the table: it keeps most columns apart."""
    if len(line.segments) == 1:
        return _fits(line, columns)
    return len(wider) * 3 >= len(columns) * 2


def _fits(line: Line, columns: Sequence[Column]) -> bool:
    """Whether a line of one segment is inside of one column, so that it may be a part of a cell."""
    slack = line.size
    return any(one.x0 - slack <= line.x0 and line.x1 <= one.x1 + slack for one in columns)


def _is_table(lines: Sequence[Line], columns: Sequence[Column]) -> bool:
    rows = [line for line in lines if len(line.segments) > 1]
    if len(rows) < _FEWEST_ROWS or len(rows) * 2 < len(lines):
        return False
    filled = [0] * len(columns)
    for row in rows:
        for cell in {_column_of(segment, columns) for segment in row.segments}:
            filled[cell] += 1
    markers = sum(is_marker(row.segments[0].text) for row in rows)
    return min(filled) >= _FILLED * len(rows) and markers * 2 < len(rows)


def _column_of(segment: Segment, columns: Sequence[Column]) -> int:
    """The index of the column that has most of the segment."""
    shared = [min(one.x1, segment.x1) - max(one.x0, segment.x0) for one in columns]
    return shared.index(max(shared))


def _rows(lines: Sequence[Line], columns: Sequence[Column]) -> list[list[str]]:
    rows: list[list[str]] = []
    before: Line | None = None
    for line in lines:
        cells = [""] * len(columns)
        for segment in line.segments:
            cell = _column_of(segment, columns)
            cells[cell] = f"{cells[cell]} {segment.text}".strip()
        if before is not None and _continues(line, before, cells):
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
        before = line
    return rows


def _continues(line: Line, before: Line, cells: Sequence[str]) -> bool:
    """Whether the line goes on with the cells of the line before it."""
    near = line.baseline - before.baseline <= _WRAPPED_PITCH * line.size
    filled = sum(bool(cell) for cell in cells)
    return near and not cells[0] and (filled < len(cells) - 1 or len(cells) == 2)
