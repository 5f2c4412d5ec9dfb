"""The cells of one sheet of an Excel workbook, as Excel shows them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from embedfleet.parsing.office.blocks import visible
from embedfleet.parsing.office.number_formats import BUILT_IN, plain, shown_number
from embedfleet.parsing.office.word_styles import whole_number
from embedfleet.parsing.office.xml_part import BrokenPart, refuse_document_type

MOST_COLUMNS = 16_384
"""Excel has no more columns, and this many rows."""
_MOST_ROWS = 1_048_576
_REFERENCE = re.compile(r"([A-Za-z]{1,3})(\d{1,7})")
_MOST_MERGED = 100_000
"""Cells that merged ranges fill; a range of whole columns would fill millions."""
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True, slots=True)
class Texts:
    """What cells refer to: strings by their numbers, and number formats by the numbers of cell styles."""

    strings: list[str]
    formats: list[str]
    from_1904: bool


@dataclass
class Sheet:
    """The rows of a sheet, and what of it is not in them."""

    rows: list[list[str]] = field(default_factory=list)
    hidden_rows: int = 0
    hidden_columns: int = 0
    hidden_chars: int = 0
    formulas: list[str] = field(default_factory=list)
    wide: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


def read_sheet(data: bytes, texts: Texts) -> Sheet:
    """Return the rows of a sheet. Raises BrokenPart if it is not well-formed."""
    refuse_document_type(data)
    reader = _Reader(texts)
    try:
        for _, element in ElementTree.iterparse(io.BytesIO(data)):
            reader.take(element)
    except (ElementTree.ParseError, ValueError, LookupError) as exc:
        raise BrokenPart(str(exc)) from exc
    return reader.sheet


class _Reader:
    def __init__(self, texts: Texts) -> None:
        self.sheet = Sheet()
        self._texts = texts
        self._hidden_columns: set[int] = set()
        self._merged = 0

    def take(self, element: Element) -> None:
        """Take an element that has ended. Rows are dropped at once, as a sheet may have a million."""
        local = _local(element)
        if local == "row":
            self._take_row(element)
            element.clear()
        elif local == "col" and element.get("hidden") in ("1", "true"):
            first, last = (whole_number(element.get(name), default=0) for name in ("min", "max"))
            last = min(last, MOST_COLUMNS)
            self._hidden_columns.update(range(first - 1, last))
        elif local == "mergeCell":
            self._take_merged(element.get("ref", ""))

    def _take_row(self, element: Element) -> None:
        number = whole_number(element.get("r"), default=len(self.sheet.rows) + 1) - 1
        if not len(self.sheet.rows) <= number < _MOST_ROWS:
            number = len(self.sheet.rows)
        cells: list[str] = []
        for cell in element:
            found = _REFERENCE.fullmatch(cell.get("r", ""))
            column = _column(found[1]) if found else len(cells)
            if len(cells) <= column < MOST_COLUMNS:
                cells += [""] * (column - len(cells))
                cells.append(self._cell(cell, number))
        if element.get("hidden") in ("1", "true"):
            chars = sum(len("".join(text.split())) for text in cells)
            if chars:
                self.sheet.hidden_rows += 1
                self.sheet.hidden_chars += chars
            cells = []
        missing = number - len(self.sheet.rows)
        self.sheet.rows.extend([] for _ in range(missing))
        self.sheet.rows.append(self._without_hidden(cells))

    def _without_hidden(self, cells: list[str]) -> list[str]:
        for column in self._hidden_columns.intersection(range(len(cells))):
            self.sheet.hidden_chars += len("".join(cells[column].split()))
            cells[column] = ""
        self.sheet.hidden_columns = len(self._hidden_columns)
        return cells

    def _cell(self, cell: Element, row: int) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return rich_text(cell)
        value, has_formula = None, False
        for child in cell:
            local = _local(child)
            if local == "v":
                value = child.text
            elif local == "f":
                has_formula = True
        if value is None or value == "":
            if has_formula and kind != "str":
                self.sheet.formulas.append(cell.get("r", f"row {row + 1}"))
            return ""
        return self._shown(kind, value, cell)

    def _shown(self, kind: str, value: str, cell: Element) -> str:
        if kind == "s":
            place = whole_number(value, default=-1)
            return self._texts.strings[place] if 0 <= place < len(self._texts.strings) else ""
        if kind == "b":
            return "TRUE" if value.strip() in ("1", "true") else "FALSE"
        if kind == "n":
            style = whole_number(cell.get("s"), default=0)
            formats = self._texts.formats
            try:
                number = float(value)
            except ValueError:
                return value
            code = formats[style] if style < len(formats) else "General"
            return (
                plain(number)
                if code == "General"
                else shown_number(number, code, from_1904=self._texts.from_1904)
            )
        return unescaped(value)

    def _take_merged(self, reference: str) -> None:
        """Fill the rows below the first one of a merged cell, as each row is read alone."""
        ends = [_REFERENCE.fullmatch(end) for end in reference.split(":")]
        if len(ends) != 2 or ends[0] is None or ends[1] is None:
            return
        left, right = _column(ends[0][1]), min(_column(ends[1][1]), MOST_COLUMNS - 1)
        top, bottom = int(ends[0][2]) - 1, min(int(ends[1][2]) - 1, len(self.sheet.rows) - 1)
        if not 0 <= top < len(self.sheet.rows) or left >= len(self.sheet.rows[top]):
            return
        if right > left:
            self.sheet.wide.setdefault(top, []).append((left, right))
        for row in self.sheet.rows[top + 1 : bottom + 1]:
            self._merged += 1
            if not any(row) or self._merged > _MOST_MERGED:
                continue
            row.extend([""] * (left + 1 - len(row)))
            row[left] = row[left] or self.sheet.rows[top][left]


def rich_text(element: Element) -> str:
    """Return the text of a string that may have runs, without how its characters are read aloud."""
    pieces: list[str] = []
    for child in element:
        local = _local(child)
        if local == "t":
            pieces.append(child.text or "")
        elif local in ("r", "is"):
            pieces.append(rich_text(child))
    return unescaped("".join(pieces))


def unescaped(text: str) -> str:
    """Return a text with the characters that XML cannot hold, which Excel writes as `_x000D_`."""
    if "_x" in text:
        text = _ESCAPED.sub(lambda code: _character(int(code[1], 16)), text)
    return visible(text)


def _character(code: int) -> str:
    return "" if 0xD800 <= code < 0xE000 else chr(code)


def _column(letters: str) -> int:
    column = 0
    for letter in letters.upper():
        column = column * 26 + ord(letter) - ord("A") + 1
    return column - 1


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2].rpartition(":")[2]


def formats_of(styles: Element | None) -> list[str]:
    """Return the number format of each cell style of a workbook."""
    if styles is None:
        return []
    own = {
        whole_number(one.get("numFmtId"), default=-1): one.get("formatCode", "General")
        for one in styles.iter("x:numFmt")
    }
    cell_styles = styles.find("x:cellXfs")
    ids = [
        whole_number(one.get("numFmtId"), default=0) for one in ([] if cell_styles is None else cell_styles)
    ]
    return [own.get(number, BUILT_IN.get(number, "General")) for number in ids]
