"""Chooses and opens the database, the broker, the vector store and the views. No other module does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from embedfleet.clock import Clock
from embedfleet.data_directory import DataDirectoryLock
from embedfleet.deployment import deployment_of
from embedfleet.errors import VectorStoreUnavailable
from embedfleet.joining import Purpose, join, queues_part, vectors_part, vectors_place
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_endpoint import parse_endpoint
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.store_moving.places import (
    current_part,
    following,
    require_mark,
    settings_now,
    settings_of_system,
)
from embedfleet.system_parts import Mark
from embedfleet.vectors.metered import MeteredVectorStore
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.registry import store_kind
from embedfleet.vectors.switching import SwitchingStore
from embedfleet.views.view import View, open_views


async def owned_database(
    stack: AsyncExitStack,
    settings: Settings,
    purpose: str,
    metrics: Metrics | None = None,
    *,
    answers_searches: bool = False,
) -> Database:
    """Open the database. Embedded, own the data directory before, until the end.

    Raises ConfigError, DataDirectoryInUse.
    """
    if deployment_of(settings).owns_data_directory:
        lock = DataDirectoryLock(settings.data_dir, purpose=purpose, answers_searches=answers_searches)
        await stack.enter_async_context(lock)
    return await entered_database(stack, settings, metrics)


async def entered_database(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics | None = None
) -> Database:
    database = open_database(settings, metrics)
    stack.push_async_callback(database.close)
    await database.open()
    return database


def entered_views(stack: AsyncExitStack, settings: Settings) -> list[View]:
    """Return the views of the settings, which are closed at the end. Raises ConfigError."""
    views = open_views(settings)
    for view in views:
        stack.push_async_callback(view.store.close)
    return views


async def open_broker(
    settings: Settings, earlier_deaths: Mapping[tuple[str, str], int] | None = None
) -> Broker:
    """Open the broker of these settings. Raises ConfigError, and BrokerUnavailable.

    `earlier_deaths` is for queues in this process: how often a process died with a task in hand.
    """
    if settings.redis.url is None:
        return MemoryBroker(deaths=earlier_deaths)
    from embedfleet.queue.redis_broker import RedisBroker

    return await RedisBroker.open(settings.redis)


async def open_store(settings: Settings) -> VectorStore:
    """Open the vector store of these settings. Raises ConfigError for an unknown `vector_store.kind`."""
    return await store_kind(settings.vector_store.kind).open_store(settings)


async def open_joined_broker(
    settings: Settings,
    database: Database,
    clock: Clock,
    earlier_deaths: Mapping[tuple[str, str], int],
    purpose: Purpose = Purpose.USE,
) -> Broker:
    """Open the broker, and close it again if it is not that of the database's system."""
    broker = await open_broker(settings, earlier_deaths)
    try:
        queues = queues_part(settings, broker)
        if queues is not None:
            await join(database, queues, clock, purpose)
    except BaseException:
        await broker.close()
        raise
    return broker


async def open_joined_store(
    settings: Settings, database: Database, clock: Clock, purpose: Purpose
) -> SwitchingStore:
    """Open the system's vector store, and close it again if it is not that of the database's system.

    While the vectors move, and after they have, that may be another one than the settings name.
    """
    there = await settings_of_system(settings, database)
    store = await open_store(there)
    try:
        await join(database, vectors_part(there, store), clock, purpose)
        mark = await store.mark()
        # A store that lost its mark with its content is examined at the place that SQL records.
        part = await database.read(current_part) if mark is None else Mark.from_text(mark)
    except BaseException:
        await store.close()
        raise
    return following(
        settings,
        database,
        store,
        None if part is None else part.part_id,
        place=vectors_place(there),
        marked=mark is not None,
    )


async def open_current_store(settings: Settings, database: Database) -> SwitchingStore:
    """Open the system's vector store in a worker, whose orchestrator has joined it.

    A store without the mark of the part that SQL records is refused: what a worker writes there is in no
    store that the system has. A store that is away is waited for by its calls, if its place is the recorded.
    """
    there, recorded = await database.read(lambda conn: (settings_now(conn, settings), current_part(conn)))
    store = await open_store(there)
    try:
        if recorded is not None:
            try:
                await require_mark(store, recorded.part_id)
            except VectorStoreUnavailable:
                if recorded.place != vectors_place(there):
                    raise
    except BaseException:
        await store.close()
        raise
    part_id = None if recorded is None else recorded.part_id
    return following(settings, database, store, part_id, place=vectors_place(there))


def places(settings: Settings) -> Mapping[str, str]:
    """Return where queues and vectors are, for messages: without user and password."""
    redis = settings.redis
    return {
        "queues": "in this process" if redis.url is None else f"Redis at {parse_endpoint(redis)}",
        "vectors": store_kind(settings.vector_store.kind).place(settings),
    }


def metered(store: VectorStore, metrics: Metrics) -> VectorStore:
    return MeteredVectorStore(store, metrics.store_seconds)
