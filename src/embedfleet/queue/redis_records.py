"""The data between the broker and its scripts: arguments as bytes, records as msgpack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import msgpack

from embedfleet.queue.broker import Lane, Task

Argument = str | int | float | bytes


def encoded(text: str) -> bytes:
    """Encode a text in UTF-8. This works for every Python string, even one with a lone surrogate."""
    return text.encode("utf-8", "surrogatepass")


def decoded(raw: bytes) -> str:
    """Decode the bytes that `encoded` made from a text."""
    return raw.decode("utf-8", "surrogatepass")


def as_bytes(argument: Argument) -> bytes:
    """Return the argument as bytes. A number becomes a text that reads back as the same number."""
    if isinstance(argument, bytes):
        return argument
    return encoded(argument) if isinstance(argument, str) else repr(argument).encode()


def task_arguments(task: Task) -> list[Argument]:
    """Return the task's fields in the order in which `enqueue.lua` reads them."""
    return [
        task.id,
        task.tenant,
        task.job_id,
        task.cost,
        task.priority,
        task.lane.value,
        int(task.alone),
        task.payload,
    ]


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as the key `tasks` holds it, with its payload."""

    task: Task
    attempt: int
    fence: int
    reason: str
    died_at: float

    @classmethod
    def unpack(cls, task_id: bytes, record: bytes, payload: bytes) -> Self:
        """Unpack the record of a task. `record` is the array that `save` in `_tasks.lua` packs."""
        fields: list[Any] = msgpack.unpackb(record, raw=True)
        _state, tenant, job, cost, priority, lane, _sequence, attempt, fence, _worker, _doomed = fields[:11]
        reason, died_at = fields[11:13]
        task = Task(
            id=decoded(task_id),
            tenant=decoded(tenant),
            job_id=decoded(job),
            cost=cost,
            payload=payload,
            priority=priority,
            lane=Lane(lane.decode()),
            alone=bool(fields[13]) if len(fields) > 13 else False,  # an earlier release wrote 13 fields
        )
        return cls(task, attempt, fence, decoded(reason), float(died_at))
