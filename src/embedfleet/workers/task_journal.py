"""A journal of the tasks in hand, which survives the process when its queues do not.

A shared broker counts every delivery and outlives the workers. Queues inside the process die with it, so a
document that kills the process would kill it again at every start. Therefore the process writes the tasks it
has in hand into a small file of the data directory. The next process reads that journal at its start and
counts one death for each task in it (table `deaths`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgpack

from embedfleet.queue.broker import Lease

JournalEntry = tuple[str, str, str]
"""One task in hand: (stage, task id, job id)."""


class TaskJournal:
    """Records the tasks in hand.

    Without a descriptor it writes nothing, because a shared broker counts the deliveries itself.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._entries: dict[JournalEntry, None] = {}  # a dict as a set that keeps the order

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal that writes to `path`. This empties the file, so call `read_journal` before."""
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))

    @contextmanager
    def recorded(self, leases: Sequence[Lease]) -> Iterator[Callable[..., None]]:
        """Keep these tasks in the journal until the end of the block.

        Yields a function that removes some of them earlier.
        """
        self._entries.update((_entry(lease), None) for lease in leases)
        self._write()
        try:
            yield self._remove
        finally:
            self._remove(*leases)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _remove(self, *leases: Lease) -> None:
        for lease in leases:
            self._entries.pop(_entry(lease), None)
        self._write()

    def _write(self) -> None:
        """Write all entries over the old ones.

        One write without a sync is enough: the page cache outlives the process, and the death of a machine is
        not the fault of a task. Old bytes may remain after the new list; a reader stops at the list's end.
        """
        if self._descriptor is not None:
            os.pwrite(self._descriptor, msgpack.packb(list(self._entries)), 0)


def _entry(lease: Lease) -> JournalEntry:
    return lease.stage.value, lease.task.id, lease.task.job_id


def read_journal(path: Path) -> list[JournalEntry]:
    """Return the tasks that a dead process had in hand; none if the file is missing or unreadable."""
    try:
        unpacker = msgpack.Unpacker(raw=False)  # reads the first list and ignores the bytes after it
        unpacker.feed(path.read_bytes())
        return [(str(stage), str(task_id), str(job_id)) for stage, task_id, job_id in unpacker.unpack()]
    except (OSError, ValueError, TypeError, msgpack.UnpackException):
        return []
