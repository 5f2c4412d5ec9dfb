"""Where the parts of a document's text are in its file: pages of a book, seconds of a recording.

Both are given by offsets in the text, so they hold however the text is cut into chunks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

import msgpack

_start = itemgetter(0)
Mark = TypeVar("Mark", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class Places:
    """The pages and cues of a text, in the order of their offsets in it.

    `pages`: (offset in characters at which a page begins, number of the page, from 1); slides count as pages.
    `cues`: (offset at which what is said begins, its first second, its last second) of a recording.
    """

    pages: tuple[tuple[int, int], ...] = ()
    cues: tuple[tuple[int, float, float], ...] = ()

    def between(self, start: int, end: int) -> Places:
        """Return the places that begin at an offset in [start, end)."""
        return Places(_between(self.pages, start, end), _between(self.cues, start, end))

    def followed_by(self, later: Places) -> Places:
        """Return these places and those of the text that follows."""
        return Places(self.pages + later.pages, self.cues + later.cues) if later != NOWHERE else self

    def packed(self) -> bytes:
        """Return the places as bytes, for `unpacked`."""
        packed: bytes = msgpack.packb([self.pages, self.cues])
        return packed

    @classmethod
    def unpacked(cls, packed: bytes) -> Places:
        pages, cues = msgpack.unpackb(packed, use_list=False)
        return cls(pages, cues)

    def page_at(self, offset: int) -> int | None:
        """Return the page of the character at `offset`; None before the first page, or without pages."""
        index = bisect_right(self.pages, offset, key=_start) - 1
        return self.pages[index][1] if index >= 0 else None

    def seconds_of(self, start: int, end: int) -> tuple[float, float] | None:
        """Return from when to when [start, end) of the text is said; None if it has no cue."""
        if not self.cues:
            return None
        first = max(bisect_right(self.cues, start, key=_start) - 1, 0)
        past = max(bisect_left(self.cues, end, key=_start), first + 1)
        said = self.cues[first:past]
        return min(cue[1] for cue in said), max(cue[2] for cue in said)


NOWHERE = Places()


def _between(marks: tuple[Mark, ...], start: int, end: int) -> tuple[Mark, ...]:
    return marks[bisect_left(marks, start, key=_start) : bisect_left(marks, end, key=_start)]
