"""CSV and TSV: each row becomes a paragraph of `header: value` lines.

So each chunk of a long table names its values, wherever it is cut. With Markdown rows, only the first chunk
would have the header. Empty cells are left out. What stands above the header is a paragraph of its own.
Without a header, each row becomes a paragraph with one cell in each line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.csv_header import SAMPLE_ROWS, Head, head_of
from embedfleet.parsing.csv_rows import Rows, dialect_of
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.text import whole_text

_WRITE_CHARS = 1 << 16


def read_delimited(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the rows. Holds the file's text in memory."""
    text = whole_text(stream, draft)
    rows = Rows(text, dialect_of(text))
    write_rows(rows, draft)
    for line in rows.stray_lines:
        draft.note(Code.STRAY_QUOTE, place=f"line {line}")
    draft.note(Code.STRAY_QUOTE, count=rows.strays - len(rows.stray_lines))
    return "text"


def write_rows(rows: Iterable[Sequence[str]], draft: Draft) -> None:
    """Write the rows of one table, none of them blank, a paragraph each. The first rows tell the header."""
    remaining = iter(rows)
    sample = list(islice(remaining, SAMPLE_ROWS))
    head = head_of(sample) if sample else Head()
    first = head.titles + (head.names is not None)
    if head.titles:
        draft.write("".join(map(_title, sample[: head.titles])) + "\n")
    if head.names is not None and first == len(sample):
        draft.write("\n".join(filter(None, head.names)) + "\n")  # a table of nothing but its header
    pieces: list[str] = []
    count = chars = 0
    for row in chain(sample[first:], remaining):
        count += 1
        pieces.append(_paragraph(head.names or (), row))
        chars += len(pieces[-1])
        if chars >= _WRITE_CHARS:
            draft.write("".join(pieces))
            pieces, chars = [], 0
    draft.write("".join(pieces))
    draft.found("rows", count)


def _title(row: Sequence[str]) -> str:
    cells = [cell.strip() for cell in row if cell.strip()]
    return (": " if len(cells) == 2 else ", ").join(cells) + "\n"


def _paragraph(names: Sequence[str], row: Sequence[str]) -> str:
    """A row as lines and a blank line. Cells beyond the header, or below an empty name, have no name."""
    lines = [
        f"{names[i]}: {cell.strip()}\n" if i < len(names) and names[i] else f"{cell.strip()}\n"
        for i, cell in enumerate(row)
        if cell and not cell.isspace()
    ]
    return "".join(lines) + "\n"
