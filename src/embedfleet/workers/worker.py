"""A worker: a few loops of one stage that share a model, a store or a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from embedfleet.errors import EmbedfleetError
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.queue.broker import Lane
from embedfleet.service import run_services
from embedfleet.settings import PoolSettings, Settings, TenantsSettings, VectorStoreSettings
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.base_worker import StageLoop
from embedfleet.workers.canary import Canary
from embedfleet.workers.chunking_worker import MOST_WAITING, Admittance, ChunkingLoop
from embedfleet.workers.deletion_worker import DeletionLoop
from embedfleet.workers.embedding_worker import EmbeddingLoop
from embedfleet.workers.interactive_worker import InteractiveLoop
from embedfleet.workers.services import Services
from embedfleet.workers.storage_worker import StorageLoop

# While one loop answers its claim, another one claims what has come since.
_INTERACTIVE_LOOPS = 2


class Worker:
    """One worker of a pool: a few loops of one stage, each with its own claims. Call `run` once."""

    def __init__(
        self,
        loops: Sequence[StageLoop],
        *,
        cpu: ThreadPoolExecutor | None = None,
        models: ModelPool | None = None,
        embedder: LocalTextEmbedder | None = None,
    ) -> None:
        first_of_lane: dict[Lane | None, StageLoop] = {}
        for loop in loops:
            # So one loop of a lane waits for tasks, and the log names it when the broker is away.
            loop.claiming = first_of_lane.setdefault(loop.lane, loop).claiming
        self._loops = loops
        self._cpu = cpu
        self._models = models
        self._embedder = embedder

    @property
    def trouble(self) -> EmbedfleetError | None:
        """The failure because of which work is put off now (disk full, store away); None if no work is."""
        return next((loop.trouble for loop in self._loops if loop.trouble), None)

    @property
    def has_hung_model(self) -> bool:
        """Whether a call of a model hangs. Only the end of the process frees its thread and memory."""
        return self._models is not None and self._models.stuck_runners > 0

    @property
    def loaded_models(self) -> tuple[str, ...]:
        """The names of the models that are ready in the worker's process, sorted."""
        return () if self._models is None else tuple(self._models.loaded())

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and the tasks in hand are done. If cancelled, hand them back and end."""
        try:
            await run_services(self._loops, stop)
        finally:
            if self._embedder is not None:
                await self._embedder.close()
            if self._cpu is not None:
                self._cpu.shutdown(wait=True, cancel_futures=True)


def build_chunking_worker(
    name: str, services: Services, *, catalogue: Catalogue, tenants: TenantsSettings
) -> Worker:
    """Build a chunking worker. Its loops share one thread.

    `concurrency` of them work at a time. The others are there for documents that wait for room.
    Cutting text holds the interpreter's lock, so more threads would not help.
    """
    cpu = ThreadPoolExecutor(1, thread_name_prefix=name)
    admittance = Admittance(services.broker, services.pools, tenants)
    loops = [
        ChunkingLoop(f"{name}/{number}", services, catalogue=catalogue, cpu=cpu, admittance=admittance)
        for number in range(services.pools.chunking.concurrency + MOST_WAITING)
    ]
    return Worker(loops, cpu=cpu)


def build_embedding_worker(
    name: str,
    services: Services,
    *,
    models: ModelPool,
    settings: Settings,
    answering: LocalTextEmbedder | None = None,
) -> Worker:
    """Build an embedding worker. While the model works on one loop's claim, another loop prepares its own.

    With `answering`, the worker also answers the requests of callers that wait, by that embedder. The worker
    closes it.
    """
    canary = Canary(services.database, models, settings.models)
    loops: list[StageLoop] = [
        EmbeddingLoop(
            loop_name, services, models=models, canary=canary, caching=settings.embedding_cache.enabled
        )
        for loop_name in _loop_names(name, services.pools.embedding)
    ]
    if answering is not None:
        loops += [
            InteractiveLoop(f"{name}/interactive {number}", services, embedder=answering)
            for number in range(_INTERACTIVE_LOOPS)
        ]
    return Worker(loops, models=models, embedder=answering)


def build_storage_worker(
    name: str, services: Services, *, store: VectorStore, settings: VectorStoreSettings
) -> Worker:
    names = _loop_names(name, services.pools.storage)
    return Worker([StorageLoop(loop_name, services, store=store, settings=settings) for loop_name in names])


def build_deletion_worker(name: str, services: Services, *, store: VectorStore) -> Worker:
    names = _loop_names(name, services.pools.deletion)
    return Worker([DeletionLoop(loop_name, services, store=store) for loop_name in names])


def _loop_names(name: str, pool: PoolSettings) -> list[str]:
    return [name] if pool.concurrency == 1 else [f"{name}/{number}" for number in range(pool.concurrency)]
