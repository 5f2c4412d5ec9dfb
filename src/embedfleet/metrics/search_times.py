"""How long the latest searches of this process took, for what gives way to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

# The reader looks every second or so; a process answers fewer searches in that time.
_MOST_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class SearchTime:
    """When a search began and ended, in seconds of the monotonic clock."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class SearchTimes:
    """Keeps the times of the latest searches until they are taken. It belongs to one event loop."""

    def __init__(self) -> None:
        self._latest: deque[SearchTime] = deque(maxlen=_MOST_KEPT)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Note the time of the block. A search that fails is not noted."""
        began = monotonic()
        yield
        self.note(SearchTime(began, monotonic()))

    def note(self, search: SearchTime) -> None:
        self._latest.append(search)

    def take(self) -> list[SearchTime]:
        """Return the searches that ended since the last call, in the order of their ends."""
        taken = list(self._latest)
        self._latest.clear()
        return taken
