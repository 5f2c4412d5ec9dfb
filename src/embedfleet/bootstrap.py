"""Chooses the adapters by the settings, opens them, and returns a working system. No other module does.

An orchestrator has many parts that use the adapters; `assembly` puts these together.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loguru import logger
from sqlalchemy import Connection

from embedfleet.adoption.adopting import Target
from embedfleet.adoption.writing import Writing
from embedfleet.assembly import build_orchestrator
from embedfleet.clock import Clock, SystemClock
from embedfleet.data_directory import DataDirectoryLock
from embedfleet.deployment import Deployment, deployment_of
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.interactive.queued import QueuedTextEmbedder
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.joining import OpenedPart, Purpose, join, queues_part, vectors_part
from embedfleet.launchers.inline import InlineLauncher
from embedfleet.launchers.launcher import Launcher
from embedfleet.launchers.process import ProcessLauncher
from embedfleet.leader.foundations import Foundations
from embedfleet.lifecycle.admission import Admission
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.queue.broker import Broker
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_endpoint import parse_endpoint
from embedfleet.queue_schemas import Stage, UserTier
from embedfleet.records import collections as collection_records
from embedfleet.records import deaths
from embedfleet.records import views as view_records
from embedfleet.records.collections import Collection
from embedfleet.records.scope import EveryTenant, Scope
from embedfleet.repair.rebuilding import Rebuilding, open_emptied_store
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Sampling, Verification
from embedfleet.search import SearchClient, SearchService
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.tenant_access import Searches
from embedfleet.traffic.synchronous import SynchronousEmbedder, claim_store
from embedfleet.vectors.metered import MeteredVectorStore
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.registry import store_kind
from embedfleet.views.keeping import ViewKeeper, recipes_of
from embedfleet.views.mending import ViewMending
from embedfleet.views.verification import ViewVerification
from embedfleet.views.view import View, open_views
from embedfleet.worker_orchestrator import WorkerOrchestrator
from embedfleet.workers.services import Services
from embedfleet.workers.task_journal import TaskJournal, read_journal
from embedfleet.workers.worker import (
    Worker,
    build_chunking_worker,
    build_deletion_worker,
    build_embedding_worker,
    build_storage_worker,
)

_WORKER_COMMAND = (sys.executable, "-m", "embedfleet.worker_process")


@dataclass(frozen=True, slots=True)
class OwnerSystem:
    """All parts of an orchestrator's process. In embedded mode that is the whole system."""

    settings: Settings
    deployment: Deployment
    database: Database
    jobs: EmbeddingJobManager
    catalogue: Catalogue
    broker: Broker
    store: VectorStore
    models: ModelPool
    embedder: TextEmbedder
    search: SearchService
    orchestrator: WorkerOrchestrator
    metrics: Metrics
    collector: MergedCollector
    health: Health


@dataclass(frozen=True, slots=True)
class GuestSystem:
    """The parts of a process beside the orchestrators, which submits, watches and searches through SQL."""

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    search: SearchClient


@dataclass(frozen=True, slots=True)
class FrontSystem:
    """The parts of a process beside the orchestrators that answers clients. It owns nothing.

    In a fleet, its `embedder` has the workers embed, and its `search` looks into the vector store, if that is
    a server. Otherwise the orchestrator searches, and without a shared `broker` this process loads models.
    """

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    catalogue: Catalogue
    broker: Broker | None
    embedder: TextEmbedder
    search: SearchService | SearchClient
    store: VectorStore | None


@dataclass(frozen=True, slots=True)
class RepairSystem:
    """The parts that compare the vector store with SQL and mend it.

    `put_aside` is the new place of a store that could not be used; None if there was none. `tenants` are
    those within the scope.
    """

    collections: Sequence[Collection]
    put_aside: Path | None
    verification: Verification
    rebuilding: Rebuilding
    truth: TrueVectors
    tenants: Sequence[str]
    views: Sequence[View]
    view_verification: ViewVerification
    view_mending: Mapping[str, ViewMending]


@asynccontextmanager
async def open_owner(
    settings: Settings,
    *,
    purpose: str,
    store: VectorStore | None = None,
    broker: Broker | None = None,
    catalogue: Catalogue | None = None,
) -> AsyncIterator[OwnerSystem]:
    """Open everything that an orchestrator needs. In embedded mode, own the data directory until the end.

    A given `store`, `broker` or `catalogue` is used in place of the one that the settings choose. The store
    and the broker are closed at the end.

    Raises DataDirectoryInUse, which names the process that owns the directory now. Raises ConfigError, also
    if the broker or the store is not that of the database's system, and Transient if a service cannot be
    reached.
    """
    deployment = deployment_of(settings)
    clock = SystemClock()
    metrics = Metrics(max_tenants=settings.monitoring.max_tenants)
    collector = MergedCollector(metrics.registry, max_tenants=settings.monitoring.max_tenants)
    health = Health()
    async with AsyncExitStack() as stack:
        database = await _owned_database(stack, settings, purpose, metrics, answers_searches=True)
        earlier_deaths = await _earlier_deaths(settings, deployment, database)
        broker = broker or await _open_joined_broker(settings, database, clock, earlier_deaths)
        stack.push_async_callback(broker.close)
        store = store or await _open_joined_store(settings, database, clock, Purpose.USE)
        store = _metered(store, metrics)
        stack.push_async_callback(store.close)
        views = _entered_views(stack, settings)
        catalogue = catalogue or Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models, metrics, calibrating=True)
        stack.push_async_callback(models.close)
        embedder = LocalTextEmbedder(catalogue, models)
        stack.push_async_callback(embedder.close)
        search = _search_service(settings, database, store, embedder)
        journal = _open_journal(stack, settings, deployment)
        services = Services(broker, database, metrics, clock, settings.worker_pools, journal=journal)
        orchestrator = build_orchestrator(
            Foundations(settings, database, broker, metrics, clock),
            deployment=deployment,
            launcher=_launcher(deployment, settings, services, catalogue, models, store, collector),
            search=search,
            store=store,
            views=views,
            collector=collector,
            health=health,
        )
        jobs = _job_manager(settings, database, catalogue, clock, search)
        stack.push_async_callback(jobs.close)
        yield OwnerSystem(
            settings=settings,
            deployment=deployment,
            database=database,
            jobs=jobs,
            catalogue=catalogue,
            broker=broker,
            store=store,
            models=models,
            embedder=embedder,
            search=search,
            orchestrator=orchestrator,
            metrics=metrics,
            collector=collector,
            health=health,
        )


@asynccontextmanager
async def open_repair(
    settings: Settings,
    *,
    purpose: str,
    scope: Scope,
    empty: bool = False,
    filling: bool = False,
    sampling: Sampling | None = None,
) -> AsyncIterator[RepairSystem]:
    """Open the parts that verify and mend the vector store. In embedded mode, own the data directory.

    With `empty`, this drops the collections within the scope first. If the store in the data directory fails
    even at that, the whole store is put aside, and `collections` are those of every tenant. With `filling`,
    the caller writes what is missing, so a store that lost its content becomes the system's store again.

    Raises as `open_owner` does.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await _owned_database(stack, settings, purpose)
        collections = await database.read(partial(collection_records.within, scope=scope))
        put_aside: Path | None = None
        # The rows of one tenant do not make up for all others that are lost.
        filled = (filling or empty) and isinstance(scope, EveryTenant)
        purpose_of_store = Purpose.FILL if filled else Purpose.EXAMINE
        opening = partial(_open_joined_store, settings, database, clock, purpose_of_store)
        if empty:
            own = store_kind(settings.vector_store.kind).own_directory(settings)
            store, put_aside = await open_emptied_store(opening, collections, own)
        else:
            store = await opening()
        stack.push_async_callback(store.close)
        if put_aside is not None:
            collections = await database.read(partial(collection_records.within, scope=EveryTenant()))
        catalogue = Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        truth = TrueVectors(
            database, catalogue, models, caching=settings.embedding_cache.enabled, now=clock.now()
        )
        rebuilding = Rebuilding(
            database, store, truth, clock, with_documents=settings.vector_store.store_documents
        )
        verification = Verification(database, store, truth, sampling=sampling)
        views = _entered_views(stack, settings)
        view_verification = ViewVerification(database, store)
        if filling or empty:
            # The leader decides which views there are. Here the settings may be those of another host.
            await database.write(partial(view_records.add_missing, recipes=recipes_of(views)))
        yield RepairSystem(
            collections,
            put_aside,
            verification,
            rebuilding,
            truth,
            tenants=sorted({one.tenant for one in collections}),
            views=views,
            view_verification=view_verification,
            view_mending={
                view.name: ViewMending(
                    ViewKeeper(view, database=database, store=store, clock=clock),
                    view_verification,
                    database=database,
                    clock=clock,
                )
                for view in views
            },
        )


@asynccontextmanager
async def open_adoption(settings: Settings, *, purpose: str, writing: bool) -> AsyncIterator[Target]:
    """Open the parts that take over collections of another system.

    With `writing`, in embedded mode, this owns the data directory. Without it no document is written, and an
    orchestrator may be running.

    Raises as `open_owner` does.
    """
    clock = SystemClock()
    catalogue = Catalogue(settings.models)
    async with AsyncExitStack() as stack:
        writer: Writing | None = None
        if writing:
            database = await _owned_database(stack, settings, purpose)
            store = await _open_joined_store(settings, database, clock, Purpose.USE)
            stack.push_async_callback(store.close)
            writer = Writing(
                database,
                store,
                clock,
                default_tier=UserTier(settings.tenants.default_tier),
                with_documents=settings.vector_store.store_documents,
                caching=settings.embedding_cache.enabled,
            )
        else:
            deployment_of(settings)
            database = await _entered_database(stack, settings)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        admission = Admission(settings, catalogue, clock)
        yield Target(settings, database, catalogue, models, admission, writer)


@asynccontextmanager
async def open_parts(settings: Settings, *, purpose: str) -> AsyncIterator[tuple[Database, list[OpenedPart]]]:
    """Open the database and the marked parts of these settings, whatever system the parts belong to.

    In embedded mode, own the data directory. Raises as `open_owner` does.
    """
    async with AsyncExitStack() as stack:
        database = await _owned_database(stack, settings, purpose)
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        parts = [queues_part(settings, broker), vectors_part(settings, store)]
        yield database, [part for part in parts if part is not None]


@asynccontextmanager
async def open_stored(settings: Settings, *, purpose: str) -> AsyncIterator[tuple[Database, VectorStore]]:
    """Open the database and the vector store to read all that is stored.

    In embedded mode, own the data directory. Raises as `open_owner` does.
    """
    async with AsyncExitStack() as stack:
        database = await _owned_database(stack, settings, purpose)
        store = await _open_joined_store(settings, database, SystemClock(), Purpose.READ)
        stack.push_async_callback(store.close)
        yield database, store


@asynccontextmanager
async def open_guest(settings: Settings) -> AsyncIterator[GuestSystem]:
    """Open only the database. This works with or without a running orchestrator."""
    deployment_of(settings)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await _entered_database(stack, settings)
        jobs = EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=clock)
        stack.push_async_callback(jobs.close)
        yield GuestSystem(settings, database, jobs, SearchClient(database, clock))


@asynccontextmanager
async def open_front(settings: Settings) -> AsyncIterator[FrontSystem]:
    """Open the parts of a process that answers clients beside the orchestrators.

    Raises ConfigError, also if the broker or the store is not that of the database's system, and Transient if
    a service cannot be reached.
    """
    clock = SystemClock()
    catalogue = Catalogue(settings.models)
    async with AsyncExitStack() as stack:
        database = await _entered_database(stack, settings)
        broker: Broker | None = None
        embedder: LocalTextEmbedder | QueuedTextEmbedder
        if deployment_of(settings).shared_broker:
            broker = await _open_joined_broker(settings, database, clock, {}, Purpose.READ)
            stack.push_async_callback(broker.close)
            embedder = QueuedTextEmbedder(catalogue, broker, clock)
        else:
            models = ModelPool(catalogue, settings.models)
            stack.push_async_callback(models.close)
            embedder = LocalTextEmbedder(catalogue, models)
        stack.push_async_callback(embedder.close)
        search: SearchService | SearchClient = SearchClient(database, clock)
        store: VectorStore | None = None
        if settings.vector_store.url is not None:
            store = await _open_joined_store(settings, database, clock, Purpose.READ)
            stack.push_async_callback(store.close)
            search = _search_service(
                settings, database, store, embedder, seconds=settings.http.embedding_timeout_seconds
            )
        jobs = _job_manager(settings, database, catalogue, clock, search)
        stack.push_async_callback(jobs.close)
        yield FrontSystem(settings, database, jobs, catalogue, broker, embedder, search, store)


@asynccontextmanager
async def open_worker(settings: Settings, stage: Stage, name: str, metrics: Metrics) -> AsyncIterator[Worker]:
    """Open only the parts that one worker process of this stage needs.

    Only storage and deletion open the vector store, and only embedding loads models.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await _entered_database(stack, settings, metrics)
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        services = Services(broker, database, metrics, clock, settings.worker_pools)
        catalogue = Catalogue(settings.models)
        match stage:
            case Stage.CHUNKING:
                yield build_chunking_worker(name, services, catalogue=catalogue, tenants=settings.tenants)
            case Stage.EMBEDDING:
                models = ModelPool(catalogue, settings.models, metrics, calibrating=True)
                stack.push_async_callback(models.close)
                for model in settings.worker_pools.embedding.models or (settings.models.default,):
                    await models.get(model)
                answering = LocalTextEmbedder(catalogue, models)
                yield build_embedding_worker(
                    name, services, models=models, settings=settings, answering=answering
                )
            case Stage.STORAGE | Stage.DELETION:
                store = _metered(await open_store(settings), metrics)
                stack.push_async_callback(store.close)
                if stage is Stage.STORAGE:
                    yield build_storage_worker(name, services, store=store, settings=settings.vector_store)
                else:
                    yield build_deletion_worker(name, services, store=store)


@asynccontextmanager
async def open_synchronous_embedder(
    settings: Settings, *, further_models: Sequence[str] = ()
) -> AsyncIterator[SynchronousEmbedder]:
    """Open the synchronous path, with the models of this process and a vector store of its own.

    The settings say which store: embedded in their data directory, which this process owns until the end, or
    on a server. It must not be that of a fleet. `further_models` may be named by requests beside the default.

    Raises ConfigError for the store of a fleet, DataDirectoryInUse, and Transient if the server is away.
    """
    async with AsyncExitStack() as stack:
        if settings.vector_store.url is None:
            await stack.enter_async_context(DataDirectoryLock(settings.data_dir, purpose="synchronous path"))
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        await claim_store(store)
        catalogue = Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        stack.push_async_callback(models.close)
        yield SynchronousEmbedder(store, catalogue, models, settings, further_models=further_models)


async def _owned_database(
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
    return await _entered_database(stack, settings, metrics)


async def _entered_database(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics | None = None
) -> Database:
    database = open_database(settings, metrics)
    stack.push_async_callback(database.close)
    await database.open()
    return database


def _entered_views(stack: AsyncExitStack, settings: Settings) -> list[View]:
    """Return the views of the settings, which are closed at the end. Raises ConfigError."""
    views = open_views(settings)
    for view in views:
        stack.push_async_callback(view.store.close)
    return views


async def _earlier_deaths(
    settings: Settings, deployment: Deployment, database: Database
) -> Mapping[tuple[str, str], int]:
    """Count a death for each task that the last owner had in hand. Return all deaths, by (stage, task id).

    A shared broker counts the deliveries itself: then there are none.
    """
    if deployment.shared_broker:
        return {}
    entries = read_journal(_journal_path(settings))
    if entries:
        logger.warning("the process before this one died with {} tasks in hand", len(entries))

    def count(conn: Connection) -> dict[tuple[str, str], int]:
        deaths.count(conn, entries)
        return deaths.of_unfinished_jobs(conn)

    return await database.write(count)


def _open_journal(stack: AsyncExitStack, settings: Settings, deployment: Deployment) -> TaskJournal:
    """Open the journal of this process; one that keeps nothing if a shared broker counts the deliveries.

    Call it after `_earlier_deaths`, because it empties the file. A crash in between counts twice, but does
    not lose the count.
    """
    if deployment.shared_broker:
        return TaskJournal()
    journal = TaskJournal.open(_journal_path(settings))
    stack.callback(journal.close)
    return journal


def _journal_path(settings: Settings) -> Path:
    return settings.data_dir / "in-hand"


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


async def _open_joined_broker(
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


async def _open_joined_store(
    settings: Settings, database: Database, clock: Clock, purpose: Purpose
) -> VectorStore:
    """Open the vector store, and close it again if it is not that of the database's system."""
    store = await open_store(settings)
    try:
        await join(database, vectors_part(settings, store), clock, purpose)
    except BaseException:
        await store.close()
        raise
    return store


def places(settings: Settings) -> Mapping[str, str]:
    """Return where queues and vectors are, for messages: without user and password."""
    redis = settings.redis
    return {
        "queues": "in this process" if redis.url is None else f"Redis at {parse_endpoint(redis)}",
        "vectors": store_kind(settings.vector_store.kind).place(settings),
    }


def _metered(store: VectorStore, metrics: Metrics) -> VectorStore:
    return MeteredVectorStore(store, metrics.store_seconds)


def _search_service(
    settings: Settings,
    database: Database,
    store: VectorStore,
    embedder: TextEmbedder,
    *,
    seconds: float | None = None,
) -> SearchService:
    """`seconds`: how long the embedding of a query may take; None: as long as it takes."""
    return SearchService(
        database=database,
        store=store,
        embedder=embedder,
        default_model=settings.models.default,
        exact_scan_rows=settings.vector_store.exact_scan_rows,
        embedding_seconds=seconds,
    )


def _job_manager(
    settings: Settings, database: Database, catalogue: Catalogue, clock: Clock, search: Searches
) -> EmbeddingJobManager:
    return EmbeddingJobManager(
        JobManagerConfig(settings=settings),
        database=database,
        catalogue=catalogue,
        clock=clock,
        searches=search,
    )


def _launcher(
    deployment: Deployment,
    settings: Settings,
    services: Services,
    catalogue: Catalogue,
    models: ModelPool,
    store: VectorStore,
    collector: MergedCollector,
) -> Launcher:
    if deployment.worker_processes:
        return ProcessLauncher(_WORKER_COMMAND, settings, collector)
    builders: Mapping[Stage, Callable[[str], Worker]] = {
        Stage.CHUNKING: partial(
            build_chunking_worker, services=services, catalogue=catalogue, tenants=settings.tenants
        ),
        Stage.EMBEDDING: partial(
            _build_inline_embedding_worker,
            services=services,
            catalogue=catalogue if deployment.shared_broker else None,
            models=models,
            settings=settings,
        ),
        Stage.STORAGE: partial(
            build_storage_worker, services=services, store=store, settings=settings.vector_store
        ),
        Stage.DELETION: partial(build_deletion_worker, services=services, store=store),
    }
    return InlineLauncher(builders)


def _build_inline_embedding_worker(
    name: str, services: Services, *, catalogue: Catalogue | None, models: ModelPool, settings: Settings
) -> Worker:
    """Build an embedding worker. With a `catalogue`, it answers the requests of API processes too."""
    answering = None if catalogue is None else LocalTextEmbedder(catalogue, models)
    return build_embedding_worker(name, services, models=models, settings=settings, answering=answering)
