"""What a process has in hand, known also after its death: for queues that die with it.

A shared broker counts every delivery and outlives the workers. Queues in process do not: a document that
kills the process would kill it again at every start. So the tasks in hand are noted in a small file of the
data directory, and whoever finds some there at its start counts one death for each (table `deaths`).
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

TaskName = tuple[str, str, str]
"""(stage, task id, job id)."""


class InHand:
    """By default nothing is noted and nobody has died."""

    def __init__(
        self, descriptor: int | None = None, deaths: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        self._descriptor = descriptor
        self._deaths = deaths or {}
        self._tasks: dict[TaskName, None] = {}

    @classmethod
    def open(cls, path: Path, deaths: Mapping[tuple[str, str], int]) -> Self:
        """Note from now on in `path`, which is emptied. `deaths`: by stage and task id."""
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), deaths)

    def deaths_of(self, stage: Stage, task_id: str) -> int:
        """How often a process died, in earlier lives of the queues, that had this task in hand."""
        return self._deaths.get((stage.value, task_id), 0)

    @contextmanager
    def holding(self, leases: Sequence[Lease]) -> Iterator[Callable[[Lease], None]]:
        """Note these tasks while they are worked on; what is yielded lets one of them go before."""
        self._tasks.update((_name(lease), None) for lease in leases)
        self._note()
        try:
            yield self._let_go
        finally:
            self._let_go(*leases)

    def _let_go(self, *leases: Lease) -> None:
        for lease in leases:
            self._tasks.pop(_name(lease), None)
        self._note()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _note(self) -> None:
        """One write: the page cache outlives the process, and a machine that dies is no task's fault."""
        if self._descriptor is not None:
            noted = msgpack.packb(list(self._tasks))
            os.pwrite(self._descriptor, noted, 0)


def _name(lease: Lease) -> TaskName:
    return lease.stage.value, lease.task.id, lease.task.job_id


def read_noted(path: Path) -> list[TaskName]:
    """What a process that died had in hand. A file that cannot be read says nothing."""
    try:
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(path.read_bytes())
        return [(str(stage), str(task_id), str(job_id)) for stage, task_id, job_id in unpacker.unpack()]
    except (OSError, ValueError, TypeError, msgpack.UnpackException):
        return []
