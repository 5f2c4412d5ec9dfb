"""Measures how much of a document its chunks hold: proves that nothing but white space was dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import is_blank


@dataclass(frozen=True, slots=True)
class Coverage:
    """Counts of characters. `covered_chars` counts those that are not blank and are in at least one span."""

    total_chars: int
    blank_chars: int
    covered_chars: int

    @property
    def visible_chars(self) -> int:
        """The characters that are not blank."""
        return self.total_chars - self.blank_chars

    @property
    def ratio(self) -> float:
        """The share of covered characters among those that are not blank; 1.0 if all are blank."""
        return self.covered_chars / self.visible_chars if self.visible_chars else 1.0


def whole_coverage(text: str) -> Coverage:
    """The coverage of a text that is one chunk."""
    blank = int(np.count_nonzero(is_blank(text)))
    return Coverage(len(text), blank, len(text) - blank)


class CoverageMeter:
    """Measures a document while it is being cut; keeps only text that the spans have not reached yet.

    Call `read` with the text, in order. Call `cover` with each span after its text has been read, in the
    order of the spans' ends.
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
