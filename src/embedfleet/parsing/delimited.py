"""CSV and TSV: each row becomes a paragraph of `header: value` lines.

So each chunk of a long table names its values, wherever it is cut. With Markdown rows, only the first chunk
would have the header. Empty cells are left out. The first row is the header, unless one of its cells is
empty, repeated or a number. Without a header, each row becomes a paragraph with one cell in each line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.text import whole_text

_DELIMITERS = ",;\t|"
_CELL_CHARS = (
    2**31 - 1
)  # the largest C long of any platform's csv module: an unclosed quote makes one cell of the rest of the file
_NUMBER = re.compile(r"[-+]?[\d.,]+%?")
_LINE = re.compile(r"[^\n]+\n?|\n")


def read_delimited(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write one row at a time. Holds the file's text in memory."""
    text = whole_text(stream, draft)
    csv.field_size_limit(_CELL_CHARS)
    first_line = next(_lines(text), "")
    reader = csv.reader(_lines(text), delimiter=max(_DELIMITERS, key=first_line.count))
    header: Sequence[str] | None = None
    number = 0
    for number, row in enumerate(row for row in reader if row):
        if number == 0 and _is_header(row):
            header = row
        else:
            draft.write(_paragraph(header, row))
    if header is not None and number == 0:
        draft.write("\n".join(header) + "\n")  # the header is the only text of such a file
    return "text"


def _lines(text: str) -> Iterator[str]:
    return (match.group() for match in _LINE.finditer(text))


def _is_header(row: Sequence[str]) -> bool:
    names = [cell.strip() for cell in row]
    return all(names) and len(set(names)) == len(names) and not any(map(_NUMBER.fullmatch, names))


def _paragraph(header: Sequence[str] | None, row: Sequence[str]) -> str:
    """A row as lines and a blank line; "" if it is empty. Cells beyond the header have no name."""
    names = header or ()
    lines = [
        f"{names[i].strip()}: {cell.strip()}\n" if i < len(names) else f"{cell.strip()}\n"
        for i, cell in enumerate(row)
        if cell.strip()
    ]
    return "".join(lines) + "\n" if lines else ""
