"""Words become segments (words with no wide gap between them) and lines (segments of one baseline)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from embedfleet.parsing.pdf.words import Word

# Shares of the size of the letters.
GAP = 0.8  # a gap that is wider may be between columns; a blank is 0.25, or 0.5 in stretched lines
_SAME_BASELINE = 0.25
_ATTACHED = 0.7  # small letters this near to a baseline are its indices
_SMALL = 0.85
_RAISED = 0.2
_GLUE = 0.12  # letters that are nearer are of one word
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


@dataclass
class Segment:
    """Words of one baseline, from left to right as the page has them, with no wide gap between them."""

    words: list[Word]

    @cached_property
    def x0(self) -> float:
        return self.words[0].x0

    @cached_property
    def x1(self) -> float:
        return max(word.x1 for word in self.words)

    @cached_property
    def baseline(self) -> float:
        return sorted(word.baseline for word in self.words)[(len(self.words) - 1) // 2]

    @cached_property
    def size(self) -> float:
        """The size of most letters."""
        first = self.words[0].font.size
        if all(word.font.size == first for word in self.words):
            return first
        sizes: Counter[float] = Counter()
        for word in self.words:
            sizes[word.font.size] += len(word.text)
        return sizes.most_common(1)[0][0]

    @cached_property
    def bold(self) -> bool:
        return all(word.font.bold for word in self.words)

    @cached_property
    def mono(self) -> bool:
        return all(word.font.mono for word in self.words)

    @cached_property
    def text(self) -> str:
        return _joined(self.words)

    @property
    def letters(self) -> int:
        return sum(len(word.text) for word in self.words)


class Line(Segment):
    """All segments of one baseline in one column of a page."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        super().__init__([word for segment in segments for word in segment.words])
        self.segments = segments


def segments_of(words: Iterable[Word]) -> list[Segment]:
    """Return the segments of a page, from top to bottom."""
    return [segment for row in _rows(words) for segment in _split(row)]


def lines_of(segments: Iterable[Segment]) -> list[Line]:
    """Return the lines that the segments make, from top to bottom."""
    lines: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda one: one.baseline):
        row = lines[-1] if lines else None
        if row is not None and segment.baseline - row[0].baseline <= _SAME_BASELINE * segment.size:
            row.append(segment)
        else:
            lines.append([segment])
    return [Line(sorted(row, key=lambda one: one.x0)) for row in lines]


def _rows(words: Iterable[Word]) -> list[list[Word]]:
    """The words of each baseline. Indices, which are small and higher or lower, are with their line."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda one: one.baseline):
        tolerance = _SAME_BASELINE * word.font.size
        if rows and word.baseline - rows[-1][0].baseline <= tolerance:
            rows[-1].append(word)
        else:
            rows.append([word])
    return _with_indices(rows)


def _with_indices(rows: list[list[Word]]) -> list[list[Word]]:
    """The rows, of which those of small letters that touch the words of a neighbour are joined to it."""
    kept: list[list[Word]] = []
    for index, row in enumerate(rows):
        for neighbour in (rows[index + 1] if index + 1 < len(rows) else None, kept[-1] if kept else None):
            if neighbour is not None and _are_indices(row, neighbour):
                neighbour.extend(row)
                break
        else:
            kept.append(row)
    return kept


def _are_indices(row: list[Word], line: list[Word]) -> bool:
    size = max(word.font.size for word in line)
    if len(row) > len(line) or abs(row[0].baseline - line[0].baseline) > _ATTACHED * size:
        return False
    if any(word.font.size > _SMALL * size for word in row):
        return False
    return all(any(word.x0 - GAP * size < one.x1 < word.x1 + size for one in line) for word in row)


def _split(row: list[Word]) -> Iterable[Segment]:
    row.sort(key=lambda word: word.x0)
    start = 0
    for index in range(1, len(row)):
        before, word = row[index - 1], row[index]
        if word.x0 - before.x1 > GAP * max(before.font.size, word.font.size):
            yield Segment(row[start:index])
            start = index
    yield Segment(row[start:])


def _joined(words: Sequence[Word]) -> str:
    """The words in the order in which they are read, with blanks between them."""
    if sum(bool(_RIGHT_TO_LEFT.search(word.text)) for word in words) * 2 > len(words):
        return " ".join(word.text for word in _right_to_left(words))
    pieces = [words[0].text]
    for before, word in pairwise(words):
        if word.glued or _is_exponent(word, before):
            pieces.append(f"^{word.text}")
        else:
            pieces.append(f" {word.text}")
    return "".join(pieces)


def _is_exponent(word: Word, before: Word) -> bool:
    size = before.font.size
    near = word.x0 - before.x1 < _GLUE * size
    small = word.font.size < _SMALL * size and not word.text[0].isupper()
    return near and small and before.baseline - word.baseline > _RAISED * size


def _right_to_left(words: Sequence[Word]) -> list[Word]:
    """The words from the right, in which those that run to the right keep their order among themselves."""
    ordered: list[Word] = []
    run: list[Word] = []
    for word in reversed(words):
        if _RIGHT_TO_LEFT.search(word.text):
            ordered += [*reversed(run), word]
            run = []
        else:
            run.append(word)
    return [*ordered, *reversed(run)]
