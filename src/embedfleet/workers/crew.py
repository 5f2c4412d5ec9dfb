"""One worker of a pool: so many claims at a time over the same model, store and thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from embedfleet.errors import EmbedfleetError
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.settings import PoolSettings, Settings, VectorStoreSettings
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.base_worker import Claiming, Worker
from embedfleet.workers.canary import Canary
from embedfleet.workers.chunking_worker import ChunkingWorker
from embedfleet.workers.deletion_worker import DeletionWorker
from embedfleet.workers.embedding_worker import EmbeddingWorker
from embedfleet.workers.services import Services
from embedfleet.workers.storage_worker import StorageWorker


class Crew:
    """The loops of one worker. `run` it once."""

    def __init__(
        self,
        members: Sequence[Worker],
        *,
        cpu: ThreadPoolExecutor | None = None,
        models: ModelPool | None = None,
    ) -> None:
        claiming = Claiming()
        for member in members:
            member.claiming = claiming
        self._members = members
        self._cpu = cpu
        self._models = models

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off at the moment (disk full, store away), if it is."""
        return next((member.trouble for member in self._members if member.trouble), None)

    @property
    def is_spent(self) -> bool:
        """A model hangs in it for good: only the end of the process frees what that takes."""
        return self._models is not None and self._models.left_behind > 0

    @property
    def loaded_models(self) -> tuple[str, ...]:
        """Names of the models that are ready in its process, sorted."""
        return () if self._models is None else tuple(self._models.loaded())

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and what is in hand is done; cancelled, hand it back and end."""
        try:
            async with asyncio.TaskGroup() as loops:
                for member in self._members:
                    loops.create_task(member.run(stop), name=member.name)
        finally:
            if self._cpu is not None:
                self._cpu.shutdown(wait=True, cancel_futures=True)


def chunking_crew(name: str, services: Services, *, catalogue: Catalogue) -> Crew:
    """Cutting text holds the interpreter's lock, so its loops share one thread: more would not cut faster."""
    cpu = ThreadPoolExecutor(1, thread_name_prefix=name)
    members = [
        ChunkingWorker(member, services, catalogue=catalogue, cpu=cpu)
        for member in _names(name, services.pools.chunking)
    ]
    return Crew(members, cpu=cpu)


def embedding_crew(name: str, services: Services, *, models: ModelPool, settings: Settings) -> Crew:
    """While the model works on one loop's claim, the next loop fetches and prepares its own."""
    canary = Canary(services.database, models, settings.models)
    members = [
        EmbeddingWorker(
            member, services, models=models, canary=canary, caching=settings.embedding_cache.enabled
        )
        for member in _names(name, services.pools.embedding)
    ]
    return Crew(members, models=models)


def storage_crew(name: str, services: Services, *, store: VectorStore, settings: VectorStoreSettings) -> Crew:
    names = _names(name, services.pools.storage)
    return Crew([StorageWorker(member, services, store=store, settings=settings) for member in names])


def deletion_crew(name: str, services: Services, *, store: VectorStore) -> Crew:
    names = _names(name, services.pools.deletion)
    return Crew([DeletionWorker(member, services, store=store) for member in names])


def _names(name: str, pool: PoolSettings) -> list[str]:
    return [name] if pool.concurrency == 1 else [f"{name}/{number}" for number in range(pool.concurrency)]
