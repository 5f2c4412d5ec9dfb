"""Opens what moves the vectors to another store while no orchestrator runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from embedfleet.bootstrap.adapters import open_joined_store, owned_database
from embedfleet.clock import SystemClock
from embedfleet.joining import Purpose, vectors_place
from embedfleet.settings import Settings
from embedfleet.store_moving.mover import StoreMover


@asynccontextmanager
async def open_mover(settings: Settings, *, purpose: str) -> AsyncIterator[StoreMover]:
    """Open what moves the vectors while no orchestrator runs. Raises as `open_owner` does."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await owned_database(stack, settings, purpose)
        store = await open_joined_store(settings, database, clock, Purpose.USE)
        stack.push_async_callback(store.close)
        yield StoreMover(database, store, store.part, clock, settings, place=vectors_place)
