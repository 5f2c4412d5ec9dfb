"""Opens the workers: those of a process of their own, and what every inline worker is built with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from loguru import logger
from sqlalchemy import Connection

from embedfleet.bootstrap.adapters import (
    entered_database,
    metered,
    open_broker,
    open_current_store,
)
from embedfleet.clock import SystemClock
from embedfleet.deployment import Deployment
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import Stage
from embedfleet.records import deaths
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.services import Services
from embedfleet.workers.task_journal import TaskJournal, read_journal
from embedfleet.workers.worker import (
    Worker,
    build_chunking_worker,
    build_deletion_worker,
    build_embedding_worker,
    build_storage_worker,
)

STORING = (Stage.STORAGE, Stage.DELETION)
"""The stages whose workers open the vector store."""


@asynccontextmanager
async def open_worker(settings: Settings, stage: Stage, name: str, metrics: Metrics) -> AsyncIterator[Worker]:
    """Open only the parts that one worker process of this stage needs.

    Only storage and deletion open the vector store, and only embedding loads models.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await entered_database(stack, settings, metrics)
        broker = await open_broker(settings)
        stack.push_async_callback(broker.close)
        services = Services(broker, database, metrics, clock, settings.worker_pools)
        store: VectorStore | None = None
        if stage in STORING:
            store = metered(await open_current_store(settings, database), metrics)
            stack.push_async_callback(store.close)
        builder, _ = await worker_builder(stack, settings, stage, services, store)
        yield builder(name)


async def worker_builder(
    stack: AsyncExitStack, settings: Settings, stage: Stage, services: Services, store: VectorStore | None
) -> tuple[Callable[[str], Worker], ModelPool | None]:
    """Load what workers of the stage need, and return what builds one by its name. `stack` closes the models.

    `store` is for the stages of `STORING`. The second value is None if the stage runs no model.
    """
    catalogue = Catalogue(settings.models)
    models: ModelPool | None = None
    if stage is Stage.EMBEDDING:
        models = ModelPool(catalogue, settings.models, services.metrics, calibrating=True)
        stack.push_async_callback(models.close)
        for model in settings.worker_pools.embedding.models or (settings.models.default,):
            await models.get(model)
    return builder_of(stage, settings, services, catalogue, store=store, models=models, answers=True), models


def builder_of(
    stage: Stage,
    settings: Settings,
    services: Services,
    catalogue: Catalogue,
    *,
    store: VectorStore | None,
    models: ModelPool | None,
    answers: bool,
) -> Callable[[str], Worker]:
    """Return what builds a worker of the stage by its name.

    `store` is for the stages of `STORING`, `models` for embedding. With `answers`, an embedding worker
    answers the requests of API processes too.
    """
    match stage:
        case Stage.CHUNKING:
            return partial(
                build_chunking_worker, services=services, catalogue=catalogue, tenants=settings.tenants
            )
        case Stage.EMBEDDING:
            assert models is not None
            return partial(
                _embedding_worker,
                services=services,
                catalogue=catalogue,
                models=models,
                settings=settings,
                answers=answers,
            )
        case Stage.STORAGE:
            assert store is not None
            return partial(
                build_storage_worker, services=services, store=store, settings=settings.vector_store
            )
        case Stage.DELETION:
            assert store is not None
            return partial(build_deletion_worker, services=services, store=store)


def _embedding_worker(
    name: str,
    services: Services,
    *,
    catalogue: Catalogue,
    models: ModelPool,
    settings: Settings,
    answers: bool,
) -> Worker:
    # An embedder of its own, because a worker closes it when it ends.
    answering = LocalTextEmbedder(catalogue, models) if answers else None
    return build_embedding_worker(name, services, models=models, settings=settings, answering=answering)


async def earlier_deaths(
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


def open_journal(stack: AsyncExitStack, settings: Settings, deployment: Deployment) -> TaskJournal:
    """Open the journal of this process; one that keeps nothing if a shared broker counts the deliveries.

    Call it after `earlier_deaths`, because it empties the file. A crash in between counts twice, but does
    not lose the count.
    """
    if deployment.shared_broker:
        return TaskJournal()
    journal = TaskJournal.open(_journal_path(settings))
    stack.callback(journal.close)
    return journal


def _journal_path(settings: Settings) -> Path:
    return settings.data_dir / "in-hand"
