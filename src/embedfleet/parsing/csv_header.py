"""Tells the titles above a table and its header from its rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Row = Sequence[str]

SAMPLE_ROWS = 30
"""How many rows decide about the header."""
_MOST_TITLES = 20

_YEAR = re.compile(r"(?:1[89]|20|21)\d\d")
_NUMBER = re.compile(r"[-+(]?\s?[$€£¥]?\s?\d[\d.,'\u00a0\u202f ]*(?:[eE][-+]?\d+)?\s?[%$€£¥)]?|[-+]?[.,]\d+")
_DATE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?(?:[ T]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(?::\d\d)?|\d{4}-?[QW]\d{1,2}"
)
_ADDRESS = re.compile(r"\S@\S|\w://")
_LONGEST_NAME = 80
_MOSTLY = 0.8


@dataclass(frozen=True, slots=True)
class Head:
    """What is above the data: rows of titles, and the names of the columns if the table has them."""

    titles: int = 0
    names: tuple[str, ...] | None = None


def head_of(rows: Sequence[Row]) -> Head:
    """Return the head of a table, of which `rows` are the first ones that are not blank."""
    width = _usual(len(row) for row in rows)
    titles = 0
    while titles < min(len(rows) - 1, _MOST_TITLES) and _is_title(rows[titles], width):
        titles += 1
    first, body = rows[titles], rows[titles + 1 :]
    names = [" ".join(cell.split()) for cell in first]
    if names[0][:1] == "#" and titles + 1 < len(rows):
        names[0] = names[0].lstrip("# ")
    if not _is_header(names, body):
        return Head(titles)
    if _has_index(body, len(names)):
        names.insert(0, "")  # R writes no name above the names of the rows
    return Head(titles, tuple(names))


def _has_index(body: Sequence[Row], names: int) -> bool:
    """Whether each row has one cell more than the header, and begins with a name of its own."""
    longer = all(len(row) == names + 1 and row[-1].strip() for row in body)
    return longer and len(body) > 1 and len({row[0] for row in body}) == len(body)


def _usual(sizes: Iterable[int]) -> int:
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))


def _is_title(row: Row, width: int) -> bool:
    """Whether a row above the header has other text: a title, a remark, or a name and a value."""
    filled = [cell for cell in row if cell.strip()]
    first_only = len(filled) == 1 and row[0].strip() != ""
    if row[0].lstrip()[:1] == "#" and (len(row) != width or width == 1):
        return width > 1
    if width < 2 or not filled:
        return False
    if first_only:
        return len(row) == 1 or width > 2 or " " in row[0].strip()
    return len(row) <= width - 2 or (width > 3 and len(filled) <= width // 2 and row[0].strip() != "")


def _is_header(names: Sequence[str], body: Sequence[Row]) -> bool:
    """Whether the first row names the columns: by how it differs from the rows below it."""
    if not body:
        return all(names) and not any(map(_is_number, names))
    consecutive = _consecutive_years(names)
    score = sum(
        _evidence(name, [row[i].strip() for row in body if i < len(row) and row[i].strip()], consecutive)
        for i, name in enumerate(names)
    )
    if not names[0] and _MOSTLY * len(body) <= sum(bool(row[0].strip()) for row in body):
        score += 2 if len(names) > 1 else 0  # above an index that has no name, as pandas writes it
    if score or len(names) > 1:
        return score > 0 or (score == 0 and not any(map(_is_number, names)))
    # One column of text: its name is shorter than what it names.
    words = sorted(len(row[0].split()) for row in body)
    return len(names[0].split()) * 2 <= words[len(words) // 2]


def _evidence(name: str, below: Sequence[str], consecutive: bool) -> float:
    """How much a column speaks for a header (above 0) or against one."""
    if not name or not below:
        return 0
    numbers = sum(_is_number(cell) for cell in below) >= _MOSTLY * len(below)
    dates = sum(_DATE.fullmatch(cell) is not None for cell in below) >= _MOSTLY * len(below)
    if _YEAR.fullmatch(name):
        all_years = all(_YEAR.fullmatch(cell) for cell in below)
        return 1 if consecutive or (numbers and not all_years) else -1 if all_years else 0.5
    if _DATE.fullmatch(name):
        return -1 if dates else 1 if numbers else -0.5
    if _is_number(name):
        return -1 if numbers else -0.5
    if numbers or dates:
        return 1
    is_value = name in below or _ADDRESS.search(name) or len(name) > _LONGEST_NAME or name[-1] in ".!?"
    has_digits = any(map(str.isdigit, name))
    like_the_others = has_digits and all(_shape(cell) == _shape(name) for cell in below)
    return -1 if is_value or like_the_others else 0


def _consecutive_years(names: Sequence[str]) -> bool:
    """Whether at least two columns are named after years that follow each other."""
    years = [int(name) for name in names if _YEAR.fullmatch(name)]
    return len(years) > 1 and all(abs(later - earlier) == 1 for earlier, later in pairwise(years))


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None or _DATE.fullmatch(cell) is not None


def _shape(cell: str) -> str:
    """The cell with a letter for each run of letters and of digits: "A-17" is "a-9"."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", cell))
