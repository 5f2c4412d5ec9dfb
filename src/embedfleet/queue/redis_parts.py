"""Large calls in parts that each hold up the server for a moment only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from embedfleet.queue.broker import Task

MOST_ITEMS = 1_000
MOST_BYTES = 8 * 2**20
"""Of payload, in one call that carries payloads."""

T = TypeVar("T")


def parts(items: Iterable[T]) -> Iterator[list[T]]:
    """In order, `MOST_ITEMS` at a time."""
    iterator = iter(items)
    while part := list(islice(iterator, MOST_ITEMS)):
        yield part


def parts_by_payload(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """In order, as many at a time as stay below both limits, but at least one."""
    part: list[Task] = []
    size = 0
    for task in tasks:
        if part and (len(part) == MOST_ITEMS or size + len(task.payload) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(task)
        size += len(task.payload)
    if part:
        yield part


async def until_fewer(act: Callable[[int], Awaitable[int]], limit: int) -> int:
    """Act on up to `MOST_ITEMS` at a time, until `limit` is reached or there were fewer."""
    total = 0
    while total < limit:
        wanted = min(limit - total, MOST_ITEMS)
        done = await act(wanted)
        total += done
        if done < wanted:
            break
    return total
