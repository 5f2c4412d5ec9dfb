"""Splits a page into columns, and gives them in the order in which they are read.

A gutter is a strip that few segments cross, with lines of prose on both sides. Segments that cross it, such
as a title over both columns, divide the page into bands: a band is read from its left column to its right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedfleet.parsing.pdf.lines import Line, Segment, lines_of

_MOST_COLUMNS_DEEP = 3  # splits of splits: up to eight columns, as on a reference card
_NARROWEST = 0.8  # of the size of the letters: the narrowest gutter
_FEWEST_LINES = 4  # of prose on each side: fewer lines may be a table
_PROSE_LETTERS, _PROSE_WORDS = 16, 3  # in an average line of prose; cells of tables have less
_MOST_CROSSING = 1.5  # as many lines as the shorter side has may cross the gutter
_FULL = 0.6  # average share of its column's width that a line of prose fills


def columns_of(segments: Sequence[Segment], deep: int = 0) -> Iterator[list[Line]]:
    """Yield the lines of each part of the page that is read from top to bottom, in the order of reading."""
    if not segments:
        return
    gutter = _gutter(segments) if deep < _MOST_COLUMNS_DEEP else None
    if gutter is None:
        yield lines_of(segments)
        return
    for band in _bands(segments, gutter):
        if band.across:
            yield from columns_of(band.across, _MOST_COLUMNS_DEEP)
        yield from columns_of(band.left, deep + 1)
        yield from columns_of(band.right, deep + 1)


@dataclass(slots=True)
class _Band:
    across: list[Segment]
    left: list[Segment]
    right: list[Segment]


def _bands(segments: Sequence[Segment], gutter: float) -> list[_Band]:
    """The bands from top to bottom. What crosses the gutter is above the columns of its band."""
    bands = [_Band([], [], [])]
    for segment in sorted(segments, key=lambda one: one.baseline):
        band = bands[-1]
        if segment.x1 <= gutter:
            band.left.append(segment)
        elif segment.x0 >= gutter:
            band.right.append(segment)
        elif band.left or band.right:
            bands.append(_Band([segment], [], []))
        else:
            band.across.append(segment)
    return bands


def _gutter(segments: Sequence[Segment]) -> float | None:
    """Return the middle of the best gutter; None if the segments are one column."""
    size = sorted(segment.size for segment in segments)[len(segments) // 2]
    best, widest = None, 0
    for start, past in _thin_strips(segments, narrowest=max(1, round(_NARROWEST * size))):
        middle = (start + past) / 2
        if past - start > widest and _divides_prose(segments, middle):
            best, widest = middle, past - start
    return best


def _thin_strips(segments: Sequence[Segment], narrowest: int) -> Iterator[tuple[int, int]]:
    """Yield the strips, in whole points, that few segments cover, with segments on both sides."""
    first = int(min(segment.x0 for segment in segments))
    width = min(int(max(segment.x1 for segment in segments)) - first + 1, 20_000)  # 7 metres of paper
    changes = [0] * (width + 1)
    for segment in segments:
        changes[min(max(int(segment.x0) - first, 0), width)] += 1
        changes[min(max(int(segment.x1) - first, 0), width)] -= 1
    covering, most = 0, 0.4 * len(segments)  # a page with more lines across than in columns has no gutter
    start = None
    for x, change in enumerate(changes):
        covering += change
        if covering <= most and x < width:
            start = x if start is None else start
        elif start is not None:
            yield from _emptiest(changes, start, x, first, narrowest)
            start = None


def _emptiest(
    changes: Sequence[int], start: int, past: int, first: int, narrowest: int
) -> Iterator[tuple[int, int]]:
    """Yield the strips of [start, past) in which least segments are, as positions on the page."""
    covering = sum(changes[:start])
    counts = []
    for x in range(start, past):
        covering += changes[x]
        counts.append(covering)
    least = min(counts)
    run = None
    for x, count in enumerate([*counts, least + 2]):
        if count <= least + 1:
            run = x if run is None else run
        elif run is not None:
            if x - run >= narrowest:
                yield first + start + run, first + start + x
            run = None


def _divides_prose(segments: Sequence[Segment], gutter: float) -> bool:
    left = lines_of([one for one in segments if one.x1 <= gutter])
    right = lines_of([one for one in segments if one.x0 >= gutter])
    fewest = min(len(left), len(right))
    crossing = len(lines_of([one for one in segments if one.x0 < gutter < one.x1]))
    if fewest < _FEWEST_LINES or crossing > _MOST_CROSSING * fewest:
        return False
    top, bottom = max(left[0].baseline, right[0].baseline), min(left[-1].baseline, right[-1].baseline)
    beside = bottom - top > 0.3 * min(_height(left), _height(right))
    return beside and _is_prose(left) and _is_prose(right)


def _height(lines: Sequence[Line]) -> float:
    return lines[-1].baseline - lines[0].baseline


def _is_prose(lines: Sequence[Line]) -> bool:
    letters = sum(line.letters for line in lines) / len(lines)
    words = sum(len(line.words) for line in lines) / len(lines)
    spaced = words >= _PROSE_WORDS or letters / words > _PROSE_LETTERS  # Chinese has no blanks
    width = max(line.x1 for line in lines) - min(line.x0 for line in lines)
    filled = sum(line.x1 - line.x0 for line in lines) / len(lines)
    return letters >= _PROSE_LETTERS and spaced and filled >= _FULL * width
