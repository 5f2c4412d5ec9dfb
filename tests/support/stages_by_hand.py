"""The stages of a system whose orchestrator does not run: a test claims and does their tasks itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.clock import SystemClock
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue.broker import Lease, Task
from embedfleet.queue_schemas import ChunkingTask, JobStatus, Stage
from embedfleet.records import jobs
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.base_worker import StageLoop
from embedfleet.workers.services import Services
from embedfleet.workers.worker import (
    build_chunking_worker,
    build_embedding_worker,
    build_storage_worker,
)


@dataclass(frozen=True, slots=True)
class StagesByHand:
    """One loop of each stage. `services` are what a further loop is made of."""

    system: OwnerSystem
    loops: dict[Stage, StageLoop]
    services: Services

    async def submit(self, texts: Sequence[tuple[str, str, str]]) -> list[str]:
        """Submit each (tenant, media id, text), and queue the chunking tasks. Returns the job ids."""
        job_ids = []
        for tenant, media_id, text in texts:
            job_id = await self.system.jobs.create_job(media_id=media_id, user_id=tenant, content=text)
            payload = ChunkingTask(tenant=tenant, job_id=job_id).encode()
            await self.system.broker.enqueue(Stage.CHUNKING, [Task(job_id, tenant, job_id, 1, payload)])
            job_ids.append(job_id)
        return job_ids

    async def claim(self, stage: Stage, max_tasks: int) -> list[Lease]:
        return await self.system.broker.claim(
            stage, worker="by hand", max_tasks=max_tasks, max_cost=10**9, lease_seconds=600
        )

    async def do(self, stage: Stage, max_tasks: int) -> int:
        """Claim once, and do and settle the tasks as a worker does. Returns how many there were."""
        leases = await self.claim(stage, max_tasks)
        if leases:
            await self.loops[stage].work(leases)
        return len(leases)

    async def statuses(self, job_ids: Sequence[str]) -> list[JobStatus]:
        found = await self.system.database.read(lambda conn: jobs.get_many(conn, job_ids))
        return [found[job_id].status for job_id in job_ids]


@asynccontextmanager
async def stages_by_hand(
    settings: Settings, *, store: VectorStore | None = None
) -> AsyncIterator[StagesByHand]:
    """Everything is open, and nothing runs by itself."""
    catalogue = Catalogue(settings.models)
    async with open_owner(settings, purpose="test", store=store, catalogue=catalogue) as system:
        services = Services(
            system.broker, system.database, system.metrics, SystemClock(), settings.worker_pools
        )
        workers = {
            Stage.CHUNKING: build_chunking_worker(
                "c", services, catalogue=catalogue, tenants=settings.tenants
            ),
            Stage.EMBEDDING: build_embedding_worker("e", services, models=system.models, settings=settings),
            Stage.STORAGE: build_storage_worker(
                "s", services, store=system.store, settings=settings.vector_store
            ),
        }
        loops = {stage: worker._loops[0] for stage, worker in workers.items()}
        yield StagesByHand(system, loops, services)
