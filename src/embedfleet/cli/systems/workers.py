"""Workers for a command that submits work: of this process, of a fleet, or of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from embedfleet.errors import EmbedfleetError


class Workers(Protocol):
    """Workers that do what a command submits."""

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why the workers of this process put off their work; None if they do not."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Have workers at work until `stop` is set."""
        ...


class WorkersElsewhere:
    """The workers of a server. They are at work in any case."""

    @property
    def trouble(self) -> None:
        return None

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()


async def work_until(workers: Workers, done: Callable[[], Awaitable[None]]) -> None:
    """Have workers at work while `done` runs. Raises the first error of either, and no exception group."""
    stop = asyncio.Event()

    async def follow() -> None:
        try:
            await done()
        finally:
            stop.set()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(workers.run(stop), name="workers")
            tasks.create_task(follow(), name="follow")
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error inside of a group: the group itself only says that tasks have ended."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
