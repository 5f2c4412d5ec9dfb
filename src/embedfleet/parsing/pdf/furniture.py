"""Finds running heads, running feet and page numbers: what stands at the same place of many pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from embedfleet.parsing.pdf.lines import Segment

_MOST_LINES = 3  # of a page's top and bottom that may be furniture
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    r"\W*(page|seite|página|pagina|p\.|стр\.|第)?\W*(#|页)\W*"
    r"((of|von|de|di|sur|из)?\W*#)?\W*",
    re.IGNORECASE,
)
_FEWEST_PAGES = 3  # on which the same line makes it a running head
_SHARE = 0.3  # of the pages: a head stands on every second page, or on nearly all
_RASTER = 4.0  # points: heads of left and right pages differ by less


def furniture_of(pages: Sequence[Sequence[Segment]]) -> list[set[int]]:
    """Return, for each page, the places of the segments that are running heads, feet or page numbers.

    The segments of a page come from top to bottom.
    """
    edges = [_edges(segments) for segments in pages]
    keys: Counter[tuple[str, int]] = Counter()
    for segments, edge in zip(pages, edges, strict=True):
        keys.update({_key(segments[place]) for place in edge})
    pages_of = [[_pages_with(one, keys) for one in segments] for segments in pages]
    wanted = max(_FEWEST_PAGES, round(_SHARE * len(pages)))
    return [
        _outer(segments, counts, wanted, len(pages)) for segments, counts in zip(pages, pages_of, strict=True)
    ]


def _outer(segments: Sequence[Segment], counts: Sequence[int], wanted: int, pages: int) -> set[int]:
    """The places of furniture with nothing but furniture between them and the edge of the page.

    `counts`: on how many pages each segment stands. The outermost line need be on a few pages only, as heads
    change with the chapter; the lines within must be on `wanted` pages. Of a page that is nothing but
    furniture, only its first and its last line are.
    """
    lines: dict[int, list[int]] = {}
    for place, segment in enumerate(segments):
        lines.setdefault(round(segment.baseline), []).append(place)
    rows = [lines[baseline] for baseline in sorted(lines)]
    found: set[int] = set()
    for ordered in (rows, rows[::-1]):
        for depth, row in enumerate(ordered[:_MOST_LINES]):
            fewest = wanted if depth else min(wanted, _FEWEST_PAGES)
            if not all(_is_furniture(segments[place], counts[place], fewest, pages) for place in row):
                break
            found.update(row)
    if len(found) == len(segments):
        return set(rows[0] + rows[-1]) if len(rows) > _MOST_LINES - 1 else set()
    return found


def _is_furniture(segment: Segment, count: int, fewest: int, pages: int) -> bool:
    # A number alone is one even in a document of two pages.
    is_number = _PAGE_NUMBER.fullmatch(_key(segment)[0]) is not None
    return count >= (min(fewest, max(2, pages - 1)) if is_number else fewest)


def _pages_with(segment: Segment, keys: Counter[tuple[str, int]]) -> int:
    text, height = _key(segment)
    return max(keys[text, height + step] for step in (-1, 0, 1))


def _edges(segments: Sequence[Segment]) -> set[int]:
    """The places of the segments of the first and of the last lines of a page."""
    baselines = sorted({round(segment.baseline) for segment in segments})
    outer = set(baselines[:_MOST_LINES] + baselines[-_MOST_LINES:])
    return {place for place, segment in enumerate(segments) if round(segment.baseline) in outer}


def _key(segment: Segment) -> tuple[str, int]:
    """What is the same on all pages: the text without numbers, and the height."""
    return _NUMBER.sub("#", segment.text), round(segment.baseline / _RASTER)
