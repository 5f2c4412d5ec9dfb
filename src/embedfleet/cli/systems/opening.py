"""Opens the system of a command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from embedfleet.cli.place import Place
    from embedfleet.cli.systems.port import Jobs, System

T = TypeVar("T")


def with_system(place: Place, act: Callable[[System], Awaitable[T]]) -> T:
    """Run `act` on the system of the place; returns what it returns."""

    async def run() -> T:
        async with AsyncExitStack() as stack:
            return await act(await _system(place, stack))

    return asyncio.run(run())


def with_jobs(place: Place, tenant: str | None, act: Callable[[Jobs], Awaitable[T]]) -> T:
    """Run `act` on the jobs that `--tenant` selects: that tenant's, or every tenant's without it."""

    async def run(system: System) -> T:
        return await act(await system.jobs(tenant))

    return with_system(place, run)


async def _system(place: Place, stack: AsyncExitStack) -> System:
    if place.server is None:
        from embedfleet.cli.systems.local import LocalSystem

        return LocalSystem(place.settings(), stack)
    from embedfleet.cli.systems.served import ServedSystem
    from embedfleet.client import AsyncClient

    client = await stack.enter_async_context(AsyncClient(place.server, api_key=place.api_key))
    return ServedSystem(client)
