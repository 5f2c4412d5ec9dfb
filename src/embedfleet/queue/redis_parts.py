"""Splits large calls into parts, so that no call holds up the server for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from embedfleet.queue.broker import Task

MOST_ITEMS = 1_000
"""The most items in one call, so that its script does not hold up the server's other clients for long."""

MOST_BYTES = 8 * 2**20
"""The most bytes of payloads in one call that carries payloads."""

T = TypeVar("T")


def parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in order, in lists of at most `MOST_ITEMS`."""
    iterator = iter(items)
    while part := list(islice(iterator, MOST_ITEMS)):
        yield part


def parts_by_payload(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Yield the tasks in order, in lists within both limits. A task that is too large gets its own list."""
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
    """Call `act` until it has done `limit` items, or fewer in one call than it was asked for.

    Each call asks for at most `MOST_ITEMS`, and `act` returns how many items it did. Return their sum.
    """
    total = 0
    while total < limit:
        wanted = min(limit - total, MOST_ITEMS)
        done = await act(wanted)
        total += done
        if done < wanted:
            break
    return total
