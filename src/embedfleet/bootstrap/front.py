"""Opens a front end: a process beside the orchestrators that answers clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from embedfleet.bootstrap.adapters import entered_database, open_joined_broker, open_joined_store
from embedfleet.bootstrap.answering import entered_jobs, search_service
from embedfleet.bootstrap.systems import FrontSystem
from embedfleet.clock import SystemClock
from embedfleet.deployment import deployment_of
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.interactive.queued import QueuedTextEmbedder
from embedfleet.joining import Purpose
from embedfleet.queue.broker import Broker
from embedfleet.searching.search import SearchClient, SearchService
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorStore


@asynccontextmanager
async def open_front(settings: Settings) -> AsyncIterator[FrontSystem]:
    """Open the parts of a process that answers clients beside the orchestrators.

    Raises ConfigError, also if the broker or the store is not that of the database's system, and Transient if
    a service cannot be reached.
    """
    clock = SystemClock()
    catalogue = Catalogue(settings.models)
    async with AsyncExitStack() as stack:
        database = await entered_database(stack, settings)
        broker: Broker | None = None
        embedder: LocalTextEmbedder | QueuedTextEmbedder
        if deployment_of(settings).shared_broker:
            broker = await open_joined_broker(settings, database, clock, {}, Purpose.READ)
            stack.push_async_callback(broker.close)
            embedder = QueuedTextEmbedder(catalogue, broker, clock)
        else:
            models = ModelPool(catalogue, settings.models)
            stack.push_async_callback(models.close)
            embedder = LocalTextEmbedder(catalogue, models)
        stack.push_async_callback(embedder.close)
        search: SearchService | SearchClient = SearchClient(database, clock)
        store: VectorStore | None = None
        if not settings.vector_store.in_data_directory:
            store = await open_joined_store(settings, database, clock, Purpose.READ)
            stack.push_async_callback(store.close)
            search = search_service(
                settings, database, store, embedder, seconds=settings.http.embedding_timeout_seconds
            )
        jobs = entered_jobs(stack, settings, database, catalogue, clock, search)
        yield FrontSystem(settings, database, jobs, catalogue, broker, embedder, search, store)
