"""The coverage of a whole text in one call, by the same meter as the chunker's."""

from __future__ import annotations

from collections.abc import Iterable

from embedfleet.chunking.coverage import Coverage, CoverageMeter


def measure_coverage(segments: Iterable[str], spans: Iterable[tuple[int, int]]) -> Coverage:
    """The coverage of a text by half-open `spans`, which must be in the order of their ends.

    Reads both as streams: no more than one segment beyond the current span is in memory.
    """
    meter = CoverageMeter()
    read_to = 0
    unread = iter(segments)
    for start, end in spans:
        while read_to < end and (segment := next(unread, None)) is not None:
            meter.read(segment)
            read_to += len(segment)
        meter.cover(start, end)
    for segment in unread:
        meter.read(segment)
    return meter.coverage
