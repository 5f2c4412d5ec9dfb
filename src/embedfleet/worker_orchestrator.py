"""The worker orchestrator: starts the pools, keeps the broker filled, stops everything in order.

Shutdown order (`run`): the stop signal first reaches the workers, which finish or hand back what they
claimed; only when all of them are done do the loops that serve them end. What is still queued then is
unfinished in SQL and is taken up at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage
from embedfleet.reconciler import Reconciler
from embedfleet.search import SearchService
from embedfleet.settings import PoolSettings, Settings
from embedfleet.storage.database import Database
from embedfleet.storage.vector_store import VectorStore
from embedfleet.workers.base_worker import Worker, first_of, wait_briefly
from embedfleet.workers.chunking_worker import ChunkingWorker
from embedfleet.workers.deletion_worker import DeletionWorker
from embedfleet.workers.embedding_worker import EmbeddingWorker
from embedfleet.workers.storage_worker import StorageWorker

# Delayed and expired tasks are looked for this often; it bounds how late a retry can be.
_HOUSEKEEPING_SECONDS = 0.2


class WorkerOrchestrator:
    """Runs all pools in this process. What it is given is the caller's to open and close."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        broker: Broker,
        store: VectorStore,
        catalogue: Catalogue,
        models: ModelPool,
        search: SearchService,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._broker = broker
        self._store = store
        self._catalogue = catalogue
        self._models = models
        self._search = search
        self._metrics = metrics
        self._clock = clock
        self._reconciler = Reconciler(database=database, broker=broker, clock=clock, tenants=settings.tenants)
        # Cutting text holds the interpreter's lock, so more threads would not cut faster.
        self._cpu = ThreadPoolExecutor(1, thread_name_prefix="chunking")
        self._workers = self._make_workers()

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off at the moment (disk full, store away), if it is."""
        return next((worker.trouble for worker in self._workers if worker.trouble), None)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: at most the batches in hand are finished."""
        serving = asyncio.Event()
        try:
            await self._reconciler.rebuild()
            await self._search.forget_abandoned(self._clock.now())
            async with asyncio.TaskGroup() as services:
                services.create_task(self._repeat(serving, self._offer), name="reconciler")
                services.create_task(self._repeat(serving, self._answer), name="searches")
                services.create_task(self._keep_house(serving), name="housekeeping")
                try:
                    async with asyncio.TaskGroup() as pools:
                        for worker in self._workers:
                            pools.create_task(worker.run(stop), name=worker.name)
                finally:
                    serving.set()
        finally:
            self._cpu.shutdown(wait=True, cancel_futures=True)

    async def _offer(self) -> None:
        while await self._reconciler.offer_jobs():
            pass
        await self._reconciler.offer_cleanups()

    async def _answer(self) -> None:
        await self._search.answer_waiting()

    async def _repeat(self, done: asyncio.Event, step: Callable[[], Awaitable[None]]) -> None:
        """Take the step now and after every write to the database, until `done`."""
        while not done.is_set():
            seen = await self._database.version()
            try:
                await step()
            except EmbedfleetError as exc:
                logger.warning("will try again: {}", exc)
                await wait_briefly(done, 1.0)
            await first_of(self._database.wait_for_write(seen, timeout_seconds=1.0), done.wait())

    async def _keep_house(self, done: asyncio.Event) -> None:
        while not done.is_set():
            for stage in Stage:
                await self._broker.promote_due(stage)
                expired = await self._broker.reap_expired(stage)
                if expired:
                    logger.warning("{} leases expired, their tasks are offered again", expired, stage=stage)
                    self._metrics.lease_expiries_total.labels(stage.value).inc(expired)
                depth = await self._broker.depth(stage)
                self._metrics.queue_depth.labels(stage.value).set(depth.ready + depth.delayed)
            await wait_briefly(done, _HOUSEKEEPING_SECONDS)

    def _make_workers(self) -> Sequence[Worker]:
        pools = self._settings.worker_pools
        makers: dict[Stage, tuple[PoolSettings, Callable[[str], Worker]]] = {
            Stage.CHUNKING: (pools.chunking, self._chunking_worker),
            Stage.EMBEDDING: (pools.embedding, self._embedding_worker),
            Stage.STORAGE: (pools.storage, self._storage_worker),
            Stage.DELETION: (pools.deletion, self._deletion_worker),
        }
        made: list[Worker] = []
        for stage, (pool, make) in makers.items():
            self._metrics.worker_count.labels(stage.value).set(pool.workers)
            made += [make(f"{stage.value}-{number}") for number in range(pool.workers)]
        return made

    def _chunking_worker(self, name: str) -> Worker:
        return ChunkingWorker(
            name=name,
            broker=self._broker,
            pool=self._settings.worker_pools.chunking,
            metrics=self._metrics,
            database=self._database,
            catalogue=self._catalogue,
            clock=self._clock,
            cpu=self._cpu,
            embedding_pool=self._settings.worker_pools.embedding,
        )

    def _embedding_worker(self, name: str) -> Worker:
        return EmbeddingWorker(
            name=name,
            broker=self._broker,
            pool=self._settings.worker_pools.embedding,
            metrics=self._metrics,
            database=self._database,
            models=self._models,
            clock=self._clock,
            storage_pool=self._settings.worker_pools.storage,
        )

    def _storage_worker(self, name: str) -> Worker:
        return StorageWorker(
            name=name,
            broker=self._broker,
            pool=self._settings.worker_pools.storage,
            metrics=self._metrics,
            database=self._database,
            store=self._store,
            clock=self._clock,
            settings=self._settings.vector_store,
        )

    def _deletion_worker(self, name: str) -> Worker:
        return DeletionWorker(
            name=name,
            broker=self._broker,
            pool=self._settings.worker_pools.deletion,
            metrics=self._metrics,
            database=self._database,
            store=self._store,
        )
