"""A journal of the tasks in hand that survives the process: for queues that die with it.

A shared broker counts every delivery and outlives the workers. Queues inside the process do not: a document
that kills the process would kill it again at every start. So the process journals the tasks it has in hand
in a small file of the data directory. The process that finds tasks in the journal at its start counts one
death for each of them (table `deaths`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgpack

from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Stage

JournalEntry = tuple[str, str, str]
"""(stage, task id, job id) of one task in hand."""


class TaskJournal:
    """The tasks in hand, and how often earlier processes died with a task in hand.

    Without a descriptor it writes nothing: a shared broker counts the deliveries itself.
    """

    def __init__(
        self, descriptor: int | None = None, deaths: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        """`deaths`: how often a process died with a task in hand, by (stage, task id)."""
        self._descriptor = descriptor
        self._deaths = deaths or {}
        self._entries: dict[JournalEntry, None] = {}  # a dict as a set that keeps the order

    @classmethod
    def open(cls, path: Path, deaths: Mapping[tuple[str, str], int]) -> Self:
        """Write to `path` from now on. The file is emptied first: read it before with `read_journal`."""
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), deaths)

    def deaths_of(self, stage: Stage, task_id: str) -> int:
        """How often an earlier process died with this task in hand."""
        return self._deaths.get((stage.value, task_id), 0)

    @contextmanager
    def recorded(self, leases: Sequence[Lease]) -> Iterator[Callable[[Lease], None]]:
        """Keep these tasks in the journal until the end of the block.

        Yields a function that removes one of them earlier.
        """
        self._entries.update((_entry(lease), None) for lease in leases)
        self._write()
        try:
            yield self._remove
        finally:
            self._remove(*leases)

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _remove(self, *leases: Lease) -> None:
        for lease in leases:
            self._entries.pop(_entry(lease), None)
        self._write()

    def _write(self) -> None:
        """Write all entries over the old ones.

        One write without a sync is enough: the page cache outlives the process, and a machine that dies is no
        task's fault. Old bytes may remain after the new list; a reader stops at the end of the list.
        """
        if self._descriptor is not None:
            os.pwrite(self._descriptor, msgpack.packb(list(self._entries)), 0)


def _entry(lease: Lease) -> JournalEntry:
    return lease.stage.value, lease.task.id, lease.task.job_id


def read_journal(path: Path) -> list[JournalEntry]:
    """The tasks that a dead process had in hand. Empty if there is no file or it cannot be read."""
    try:
        unpacker = msgpack.Unpacker(raw=False)  # reads the first list and ignores the bytes after it
        unpacker.feed(path.read_bytes())
        return [(str(stage), str(task_id), str(job_id)) for stage, task_id, job_id in unpacker.unpack()]
    except (OSError, ValueError, TypeError, msgpack.UnpackException):
        return []
