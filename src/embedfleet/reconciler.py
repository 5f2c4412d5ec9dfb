"""SQL to broker: offers what SQL says is to be done and the broker has not been told.

The broker is an index that may be lost at any time; SQL is the truth. Every offer may be repeated, since a
broker ignores a task it already has.
"""

from __future__ import annotations

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.queue.broker import Broker, Task, TenantShare
from embedfleet.queue_schemas import ChunkingTask, DeletionTask, Stage
from embedfleet.settings import TenantsSettings
from embedfleet.storage import documents, fleet, jobs, usage
from embedfleet.storage.database import Database
from embedfleet.storage.jobs import Job
from embedfleet.workers.base_worker import offer

# Offered in one go; more come with the next pass.
_OFFERS_PER_PASS = 500
# A document's cost for fair queuing before its tokens are known: about four characters a token.
_CHARS_PER_TOKEN = 4


class Reconciler:
    """Keeps the broker filled from SQL."""

    def __init__(
        self,
        *,
        database: Database,
        broker: Broker,
        clock: Clock,
        tenants: TenantsSettings,
    ) -> None:
        self._database = database
        self._broker = broker
        self._clock = clock
        self._tenants = tenants
        self._known_shares: dict[str, TenantShare] = {}
        self._known_epoch: str | None = None

    async def notice_lost_broker(self) -> None:
        """If the broker is another than the one that was told of the jobs, or lost its memory: every
        unfinished job is to be offered anew."""
        epoch = await self._broker.epoch()
        if epoch == self._known_epoch:
            return
        unfinished = await self._database.write(lambda conn: _new_epoch(conn, epoch))
        if unfinished:
            logger.info("the broker is new or empty: {} unfinished jobs are offered to it", unfinished)
        self._known_shares.clear()
        self._known_epoch = epoch

    async def offer_jobs(self) -> int:
        """Offer jobs the broker does not know; returns how many."""
        waiting = await self._database.read(lambda conn: jobs.unoffered(conn, _OFFERS_PER_PASS))
        if not waiting:
            return 0
        await self._set_shares()
        await offer(self._broker, Stage.CHUNKING, [_chunking_task(job, chars) for job, chars in waiting])
        now = self._clock.now()
        # After the offer: a crash in between offers twice, which is harmless; the other order would lose.
        await self._database.write(lambda conn: jobs.mark_offered(conn, [job for job, _ in waiting], now))
        return len(waiting)

    async def offer_cleanups(self) -> None:
        """Offer documents with leftovers; those already on their way are ignored by the broker."""
        waiting = await self._database.read(lambda conn: documents.awaiting_cleanup(conn, _OFFERS_PER_PASS))
        tasks = [_deletion_task(tenant_id, document_id) for tenant_id, document_id in waiting]
        if tasks:
            await self._broker.enqueue(Stage.DELETION, tasks)

    async def _set_shares(self) -> None:
        for tenant_id, tier_name in (await self._database.read(usage.tiers)).items():
            tier = self._tenants.tiers[tier_name.value]
            share = TenantShare(weight=tier.weight, max_in_flight=tier.max_in_flight)
            if self._known_shares.get(tenant_id) != share:
                await self._broker.set_share(tenant_id, share)
                self._known_shares[tenant_id] = share


def _new_epoch(conn: Connection, epoch: str) -> int:
    if fleet.broker_epoch(conn) == epoch:
        return 0
    fleet.set_broker_epoch(conn, epoch)
    return jobs.offer_all_again(conn)


def _chunking_task(job: Job, chars: int) -> Task:
    return Task(
        id=f"{job.job_id}:{job.run}",
        tenant_id=job.tenant_id,
        job_id=job.job_id,
        cost=1 + chars // _CHARS_PER_TOKEN,
        payload=ChunkingTask(tenant_id=job.tenant_id, job_id=job.job_id).encode(),
        priority=job.priority,
    )


def _deletion_task(tenant_id: str, document_id: str) -> Task:
    message = DeletionTask(tenant_id=tenant_id, job_id=document_id, document_id=document_id)
    return Task(id=document_id, tenant_id=tenant_id, job_id=document_id, cost=1, payload=message.encode())
