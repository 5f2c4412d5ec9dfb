"""Opens an orchestrator with all of its parts."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from embedfleet.assembly import build_orchestrator
from embedfleet.bootstrap.adapters import (
    entered_views,
    metered,
    open_joined_broker,
    open_joined_store,
    owned_database,
)
from embedfleet.bootstrap.answering import entered_jobs, search_service
from embedfleet.bootstrap.ray_cluster import RAY_DRIVER_COMMAND
from embedfleet.bootstrap.systems import OwnerSystem
from embedfleet.bootstrap.workers import builder_of, earlier_deaths, open_journal
from embedfleet.clock import Clock, SystemClock
from embedfleet.deployment import Deployment, deployment_of
from embedfleet.experiments.runner import ExperimentRunner
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.joining import Purpose, vectors_place
from embedfleet.launchers.inline import InlineLauncher
from embedfleet.launchers.launcher import Launcher
from embedfleet.launchers.process import ProcessLauncher
from embedfleet.launchers.ray.launcher import RayLauncher
from embedfleet.leader.foundations import Foundations
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.model_switching.arm_asking import ArmAsking
from embedfleet.model_switching.asking import TenantQuestions
from embedfleet.model_switching.giving_way import GivingWay
from embedfleet.model_switching.hold_ups import HoldUps
from embedfleet.model_switching.switcher import ModelSwitcher
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.searching.search import SearchService
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.store_moving.mover import StoreMover
from embedfleet.store_moving.telling import MoveTelling
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.services import Services

WORKER_COMMAND = (sys.executable, "-m", "embedfleet.worker_process")


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

    A given `store`, `broker` or `catalogue` is used in place of that of the settings. The first two are
    closed at the end.

    Raises DataDirectoryInUse, which names the process that owns the directory now. Raises ConfigError, also
    if the broker or the store is not that of the database's system, and Transient if a service is away.
    """
    deployment = deployment_of(settings)
    clock = SystemClock()
    metrics, collector = _series(settings)
    async with AsyncExitStack() as stack:
        database = await owned_database(stack, settings, purpose, metrics, answers_searches=True)
        broker = await _entered_broker(stack, settings, deployment, database, clock, broker)
        store, mover = await _entered_store(stack, settings, database, clock, metrics, store)
        views = entered_views(stack, settings)
        catalogue = catalogue or Catalogue(settings.models)
        models, embedder = _entered_models(stack, settings, catalogue, metrics)
        search = search_service(settings, database, store, embedder)
        journal = open_journal(stack, settings, deployment)
        services = Services(broker, database, metrics, clock, settings.worker_pools, journal=journal)
        launcher = await _launcher(stack, deployment, settings, services, catalogue, models, store, collector)
        orchestrator = build_orchestrator(
            Foundations(settings, database, broker, metrics, clock),
            deployment=deployment,
            launcher=launcher,
            search=search,
            store=store,
            mover=mover,
            switcher=_switcher(settings, database, broker, store, catalogue, models, clock, search),
            experiments=ExperimentRunner(database, ArmAsking(database, search.spaces), clock, settings),
            views=views,
            collector=collector,
            health=(health := Health()),
        )
        jobs = entered_jobs(stack, settings, database, catalogue, clock, search)
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


async def _entered_broker(
    stack: AsyncExitStack,
    settings: Settings,
    deployment: Deployment,
    database: Database,
    clock: Clock,
    given: Broker | None,
) -> Broker:
    """Return the broker, which is closed at the end: the `given` one, or that of the settings."""
    deaths_before = await earlier_deaths(settings, deployment, database)
    broker = given or await open_joined_broker(settings, database, clock, deaths_before)
    stack.push_async_callback(broker.close)
    return broker


async def _entered_store(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    clock: Clock,
    metrics: Metrics,
    given: VectorStore | None,
) -> tuple[VectorStore, StoreMover | None]:
    """Return the vector store, with its calls counted, and what moves its vectors.

    A `given` store is used in place of the one that the settings choose, and nothing moves its vectors.
    """
    mover: StoreMover | None = None
    if given is None:
        opened = await open_joined_store(settings, database, clock, Purpose.USE)
        store = metered(opened, metrics)
        telling = MoveTelling(metrics)
        mover = StoreMover(
            database, store, opened.part, clock, settings, place=vectors_place, telling=telling
        )
    else:
        store = metered(given, metrics)
    stack.push_async_callback(store.close)
    return store, mover


def _switcher(
    settings: Settings,
    database: Database,
    broker: Broker,
    store: VectorStore,
    catalogue: Catalogue,
    models: ModelPool,
    clock: Clock,
    search: SearchService,
) -> ModelSwitcher:
    """Return what switches tenants to other models. Its gate asks in this process.

    It gives way to what `search` answers.
    """
    caching = settings.embedding_cache.enabled
    own = settings.model_switching
    giving_way = GivingWay(database, clock, search.times, max_slowdown=own.max_search_slowdown)
    asking = ArmAsking(database, search.spaces)
    return ModelSwitcher(
        database,
        store,
        TenantQuestions(database, asking, own.gate, giving_way),
        TrueVectors(database, catalogue, models, caching=caching, now=clock.now()),
        clock,
        settings,
        giving_way,
        HoldUps(database, broker),
    )


def _series(settings: Settings) -> tuple[Metrics, MergedCollector]:
    """Return the series of this process, and what joins them with those of its workers."""
    metrics = Metrics(max_tenants=settings.monitoring.max_tenants)
    return metrics, MergedCollector(metrics.registry, max_tenants=settings.monitoring.max_tenants)


def _entered_models(
    stack: AsyncExitStack, settings: Settings, catalogue: Catalogue, metrics: Metrics
) -> tuple[ModelPool, LocalTextEmbedder]:
    """Return the models of this process and what embeds with them; both are closed at the end."""
    models = ModelPool(catalogue, settings.models, metrics, calibrating=True)
    stack.push_async_callback(models.close)
    embedder = LocalTextEmbedder(catalogue, models)
    stack.push_async_callback(embedder.close)
    return models, embedder


async def _launcher(
    stack: AsyncExitStack,
    deployment: Deployment,
    settings: Settings,
    services: Services,
    catalogue: Catalogue,
    models: ModelPool,
    store: VectorStore,
    collector: MergedCollector,
) -> Launcher:
    if deployment.ray:
        ray = RayLauncher(RAY_DRIVER_COMMAND, settings, collector)
        stack.push_async_callback(ray.close)
        await ray.open()
        return ray
    if deployment.worker_processes:
        return ProcessLauncher(WORKER_COMMAND, settings, collector)
    builders = {
        stage: builder_of(
            stage,
            settings,
            services,
            catalogue,
            store=store,
            models=models,
            answers=deployment.shared_broker,
        )
        for stage in Stage
    }
    return InlineLauncher(builders)
