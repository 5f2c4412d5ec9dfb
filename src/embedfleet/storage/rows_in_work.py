"""Rows that a thread is writing now: nobody else of this process writes them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class RowsInWork:
    """Writers of different rows run side by side, those that share one follow each other.

    A writer takes all its rows at once or none, so two can never wait for each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[tuple[str, str]] = set()

    @contextmanager
    def alone(self, collection: str, ids: Sequence[str]) -> Iterator[None]:
        """Wait until none of these rows is being written, and keep them until the block ends."""
        rows = {(collection, row_id) for row_id in ids}
        with self._changed:
            self._changed.wait_for(lambda: self._taken.isdisjoint(rows))
            self._taken |= rows
        try:
            yield
        finally:
            with self._changed:
                self._taken -= rows
                self._changed.notify_all()
