"""The only place where adapters are chosen: settings in, a working system out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from embedfleet.clock import SystemClock
from embedfleet.errors import ConfigError
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig, open_database
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.search import SearchClient, SearchService
from embedfleet.settings import Settings
from embedfleet.storage.chroma import ChromaVectorStore
from embedfleet.storage.database import Database
from embedfleet.storage.ownership import DataDirectoryLock
from embedfleet.storage.vector_store import VectorStore
from embedfleet.worker_orchestrator import WorkerOrchestrator


@dataclass(frozen=True, slots=True)
class OwnerSystem:
    """All of an embedded system, in the one process that owns its data directory."""

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    broker: Broker
    store: VectorStore
    models: ModelPool
    search: SearchService
    orchestrator: WorkerOrchestrator
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class GuestSystem:
    """A process beside the owner: it submits, watches and asks through SQL."""

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    search: SearchClient


@asynccontextmanager
async def open_owner(
    settings: Settings,
    *,
    purpose: str,
    store: VectorStore | None = None,
    broker: Broker | None = None,
    catalogue: Catalogue | None = None,
) -> AsyncIterator[OwnerSystem]:
    """Own the data directory and open everything in it.

    `store`, `broker` and `catalogue` take the place of what the settings would choose; they are closed too.

    Raises DataDirectoryInUse naming the process that owns it now, ConfigError.
    """
    refuse_fleet_settings(settings)
    clock = SystemClock()
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        stack.enter_context(DataDirectoryLock(settings.data_dir, purpose=purpose))
        database = open_database(settings)
        stack.push_async_callback(database.close)
        await database.open()
        if store is None:
            store = await ChromaVectorStore.open(settings.chroma_dir)
        stack.push_async_callback(store.close)
        catalogue = catalogue or Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        search = SearchService(
            database=database, store=store, models=models, default_model=settings.models.default
        )
        broker = broker or MemoryBroker(clock=clock)
        stack.push_async_callback(broker.close)
        orchestrator = WorkerOrchestrator(
            settings=settings,
            database=database,
            broker=broker,
            store=store,
            catalogue=catalogue,
            models=models,
            search=search,
            metrics=metrics,
            clock=clock,
        )
        jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
        yield OwnerSystem(settings, database, jobs, broker, store, models, search, orchestrator, metrics)


@asynccontextmanager
async def open_guest(settings: Settings) -> AsyncIterator[GuestSystem]:
    """Open only the database: works beside an owner, and when nobody is."""
    refuse_fleet_settings(settings)
    clock = SystemClock()
    database = open_database(settings)
    try:
        await database.open()
        jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
        yield GuestSystem(settings, database, jobs, SearchClient(database, clock))
    finally:
        await database.close()


def refuse_fleet_settings(settings: Settings) -> None:
    """Settings of the fleet must not be ignored in silence by a release that cannot honour them."""
    asked = {
        "redis.url": settings.redis.url is not None,
        "auto_scaling.enabled": settings.auto_scaling.enabled,
        "vector_store.url": settings.vector_store.url is not None,
    }
    for name, is_set in asked.items():
        if is_set:
            raise ConfigError(
                f"setting `{name}` belongs to fleet mode, which this release does not have: remove it to run "
                "embedded"
            )
