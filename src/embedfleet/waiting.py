"""Waits for the first of several awaitables, pauses until a signal, works ahead, groups, and ends tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def first_of(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Return when the first awaitable has ended. The others are cancelled."""
    waiting = [asyncio.create_task(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(*waiting)


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and return when all have ended. What they raise is dropped.

    Without the wait a task may still be at work when what it uses is closed.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def wait_briefly(stop: asyncio.Event, seconds: float = 0.02) -> None:
    """Pause for `seconds`, or until `stop` is set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def repeat(stop: asyncio.Event, step: Callable[[], Awaitable[None]], *, seconds: float) -> None:
    """Call `step` now, and again `seconds` after each call has ended, until `stop` is set.

    An exception of `step` ends the loop and is raised here. A loop that must survive failures handles them in
    its step.
    """
    while not stop.is_set():
        await step()
        await wait_briefly(stop, seconds)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do the work and return its result. If `stop` is set before it has ended, cancel it and return None.

    An exception of the work is raised here.
    """
    return await unless(stop.wait(), work)


async def unless(over: Coroutine[Any, Any, object], work: Coroutine[Any, Any, T]) -> T | None:
    """Do the work and return its result. If `over` ends before it has, cancel it and return None.

    An exception of the work is raised here.
    """
    task = asyncio.create_task(work)
    result: T | None = None
    try:
        await first_of(asyncio.wait([task]), over)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            result = await task  # raises what ended the work, if that was not this cancellation
    return result


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do the work and return its result, for work that must not be left half done.

    If the caller is cancelled before, the work goes on to its end, and then the cancellation is raised. What
    the work raises is dropped then.
    """
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        await asyncio.gather(task, return_exceptions=True)
        raise cancelled
    return task.result()


async def one_ahead(
    items: Iterable[T], prepare: Callable[[T], Coroutine[Any, Any, R]]
) -> AsyncGenerator[R, None]:
    """Yield what `prepare` makes of each item, in order. While one is in use, the next one is being prepared.

    An exception of `prepare` is raised in place of its result. Close the generator (`aclosing`) if it is left
    before its end: what is under way is cancelled then.
    """
    under_way: deque[asyncio.Task[R]] = deque()
    try:
        for item in items:
            under_way.append(asyncio.create_task(prepare(item)))
            if len(under_way) == 2:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        await cancel_and_wait(*under_way)


async def in_groups(
    items: AsyncGenerator[T, None],
    *,
    size_of: Callable[[T], int],
    full: int,
    longest_wait_seconds: float,
) -> AsyncGenerator[list[T], None]:
    """Yield the items in groups, in order, none empty.

    A group ends when the sizes of its items are `full` together, or when the next item takes longer than
    `longest_wait_seconds`. So an item waits for others as long as they come quickly, and little is in memory.
    What came before an exception of `items` is yielded before it is raised. Close the generator (`aclosing`)
    if it is left before its end, and `items` after it.
    """
    group: list[T] = []
    size = 0
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while True:
            if group and size < full:
                await asyncio.wait([coming], timeout=longest_wait_seconds)
            if group and (size >= full or not coming.done()):
                yield group
                group, size = [], 0
            try:
                item = await coming
            except Exception:
                if group:
                    yield group
                raise
            if item is None:
                break
            group.append(item)
            size += size_of(item)
            coming = asyncio.ensure_future(anext(items, None))
        if group:
            yield group
    finally:
        await cancel_and_wait(coming)
