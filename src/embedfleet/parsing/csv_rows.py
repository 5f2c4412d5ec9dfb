"""The rows of delimited text, with the quotes that real files have.

Python's `csv` takes a quote that nothing closes for the beginning of a cell that has the rest of the file.
Here a quote begins a cell only if another one ends it, in front of a delimiter or the end of a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from embedfleet.account import MOST_PLACES

_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"\"?sep=(?P<sep>\\t|[^\n\"])\"?[ \t]*(?:\n|\Z)", re.IGNORECASE)
_SAMPLE_CHARS = 1 << 16
_SAMPLE_ROWS = 60
_USUAL_SHARE = 0.5
"""A delimiter that gives fewer rows the same number of cells is more likely part of the text."""
_LINES_OF_TWO_COLUMNS = 5
"""Prose in a cell may have one comma in each of its lines; five such lines are rows."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file separates its cells. `delimiter`: "" if it has one column. `start`: where its rows begin.
    `columns`: how many cells most rows have."""

    delimiter: str
    quote: str = '"'
    start: int = 0
    columns: int = 1


class Rows:
    """Iterates over the rows of a text that are not blank.

    `strays` counts the quotes that are out of place so far; `stray_lines` says in which lines the first are.
    """

    def __init__(self, text: str, dialect: Dialect) -> None:
        self._text = text
        self._dialect = dialect
        self.strays = 0
        self.stray_lines: list[int] = []
        delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
        end = rf"[ \t]*(?={delimiter}|\n|\Z)" if delimiter else r"[ \t]*(?=\n|\Z)"
        if dialect.delimiter == "\t":
            end = end.replace(r"[ \t]*", "[ ]*", 1)
        self._quoted = re.compile(rf"[ ]*{quote}((?:[^{quote}]++|{quote}{quote})*+){quote}{end}")
        self._escaped = re.compile(rf"[ ]*{quote}((?:[^{quote}\\]++|\\.|{quote}{quote})*+){quote}{end}", re.S)
        self._plain = re.compile(rf"[^\n{delimiter}]*+")

    def __iter__(self) -> Iterator[list[str]]:
        text, delimiter, quote = self._text, self._dialect.delimiter, self._dialect.quote
        at = self._dialect.start
        while at < len(text):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = text[at:end]
            if quote in line:
                row, at = self._row_with_quotes(at)
            else:
                row = line.split(delimiter) if delimiter else [line]
                at = end + 1
            if any(cell and not cell.isspace() for cell in row):
                yield row

    def _row_with_quotes(self, at: int) -> tuple[list[str], int]:
        """The row that begins at an offset, and the offset of the next one."""
        row = []
        while True:
            cell, at = self._cell(at)
            row.append(cell)
            if not (self._dialect.delimiter and self._text.startswith(self._dialect.delimiter, at)):
                return row, at + 1
            at += 1

    def _cell(self, at: int) -> tuple[str, int]:
        quote = self._dialect.quote
        found = self._quoted.match(self._text, at)
        if found and not self._has_rows(found[1]):
            return found[1].replace(quote * 2, quote), found.end()
        escaped = None if found else self._escaped.match(self._text, at)
        if escaped and not self._has_rows(escaped[1]):
            return escaped[1].replace(f"\\{quote}", quote).replace(quote * 2, quote), escaped.end()
        plain = self._plain.match(self._text, at)
        assert plain is not None
        if plain[0].lstrip()[:1] == quote and plain[0].count(quote) % 2:
            self.strays += 1
            if len(self.stray_lines) < MOST_PLACES:
                self.stray_lines.append(self._text.count("\n", 0, at) + 1)
        return plain[0], plain.end()

    def _has_rows(self, cell: str) -> bool:
        """Whether a cell of several lines is made of rows: then its first quote is out of place."""
        inner = cell.split("\n")[1:-1]
        needed = 1 if self._dialect.columns > 2 else _LINES_OF_TWO_COLUMNS
        if self._dialect.columns < 2 or len(inner) < needed:
            return False
        commas = self._dialect.columns - 1
        return all(line.count(self._dialect.delimiter) == commas for line in inner)


def dialect_of(text: str) -> Dialect:
    """Return how the file separates its cells, as a sample of its rows shows it."""
    start = len(text) - len(text.lstrip("\n\ufeff"))
    given = _SEPARATOR_LINE.match(text, start)
    if given:
        start = given.end()
    sample = text[: start + _SAMPLE_CHARS]
    quote = _quote_of(sample, start)
    known = "\t" if given and given["sep"] == "\\t" else given["sep"] if given else None
    best: tuple[float, int, Dialect] | None = None
    for delimiter in known or _DELIMITERS:
        share, columns = _regularity(sample, Dialect(delimiter, quote, start))
        if best is None or (share, columns) > best[:2]:
            best = (share, columns, Dialect(delimiter, quote, start, columns))
    assert best is not None
    share, _, dialect = best
    if known or (share and not _is_prose(sample[start:], dialect, share)):
        return dialect
    return Dialect("", quote, start)


def _quote_of(sample: str, start: int) -> str:
    """The quote around cells: an apostrophe only if one begins and ends each of the first lines."""
    lines = [line.strip() for line in sample[start:].split("\n")[:5] if line.strip()]
    apostrophes = bool(lines) and all(len(line) > 1 and line[0] == line[-1] == "'" for line in lines)
    return "'" if apostrophes and '"' not in sample else '"'


def _regularity(sample: str, dialect: Dialect) -> tuple[float, int]:
    """Which share of the rows has the commonest number of cells, and that number; (0, 1) for one column."""
    sizes = Counter(len(row) for row in islice(Rows(sample, dialect), _SAMPLE_ROWS))
    several = [(count, size) for size, count in sizes.items() if size > 1]
    if not several:
        return 0.0, 1
    count, size = max(several)
    return count / sum(sizes.values()), size


def _is_prose(sample: str, dialect: Dialect, share: float) -> bool:
    """Whether the delimiter is part of sentences: it is not in the first line, and followed by blanks."""
    first = sample[: sample.find("\n")] if "\n" in sample else sample
    if dialect.delimiter in first:
        return share < _USUAL_SHARE / 2 and dialect.delimiter + " " in first
    spaced = sample.count(dialect.delimiter + " ")
    return share < _USUAL_SHARE or 2 * spaced > sample.count(dialect.delimiter)
