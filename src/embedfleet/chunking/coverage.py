"""How much of a document its chunks hold: the proof that nothing was dropped but white space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import is_blank


@dataclass(frozen=True, slots=True)
class Coverage:
    """Counts of characters. `covered_chars` are those in some span that are not blank."""

    total_chars: int
    blank_chars: int
    covered_chars: int

    @property
    def ratio(self) -> float:
        """Covered share of the characters that are not blank; 1.0 when there are none."""
        visible = self.total_chars - self.blank_chars
        return self.covered_chars / visible if visible else 1.0


class CoverageMeter:
    """Measures while a document streams by; holds only the text no span has passed yet.

    Text comes in order through `read`, spans in order of their ends through `cover`, each after its
    text was read.
    """

    def __init__(self) -> None:
        self._total = 0
        self._blank = 0
        self._covered = 0
        self._covered_to = 0
        self._visible: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    def read(self, text: str) -> None:
        visible = ~is_blank(text)
        unread = self._visible[max(len(self._visible) - (self._total - self._covered_to), 0) :]
        self._visible = np.concatenate((unread, visible))
        self._total += len(text)
        self._blank += len(text) - int(np.count_nonzero(visible))

    def cover(self, start: int, end: int) -> None:
        offset = self._total - len(self._visible)
        fresh = self._visible[max(start, self._covered_to) - offset : max(end - offset, 0)]
        self._covered += int(np.count_nonzero(fresh))
        self._covered_to = max(self._covered_to, end)

    @property
    def coverage(self) -> Coverage:
        return Coverage(self._total, self._blank, self._covered)


def measure_coverage(segments: Iterable[str], spans: Iterable[tuple[int, int]]) -> Coverage:
    """The coverage of the text by half-open `spans`, which come in order of their ends.

    Streams both: holds one segment beyond the span at hand.
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
