"""Keeps the broker filled from SQL: offers new work, and offers work again that the broker has lost.

The broker is an index that may be lost at any time; SQL is the truth. Every offer may be repeated, because a
broker ignores a task that it has already.

Lost tasks are found as follows. Every stage enqueues the tasks of the next stage, and commits SQL, before it
acks. So an unfinished job that was offered always has a ready, leased or delayed task in some stage. If the
broker knows no task of a job, and the job did not change in SQL while the broker was asked, its tasks are
lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.metrics import Metrics
from embedfleet.model_switching.held_twins import HeldTwins
from embedfleet.queue.broker import Broker, DeadTask, Task, TenantShare
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import ChunkingTask, DeletionTask, Stage
from embedfleet.quota import limits_of
from embedfleet.records import document_cleanup, fleet, jobs, outbox, tenants
from embedfleet.records.model_switches import BACKFILL_FLOW
from embedfleet.records.outbox import OfferedJob, WaitingJob
from embedfleet.records.tenants import TenantRow
from embedfleet.settings import TenantsSettings
from embedfleet.sql.database import Database

# The most jobs or documents that are offered in one pass. The rest follows in the next pass.
_OFFERS_PER_PASS = 500
# The cost of a document in fair queuing is estimated before its tokens are known: four characters per token.
_CHARS_PER_TOKEN = 4
# The most jobs that one pass of a walk looks at, and the most that it offers again.
_JOBS_PER_PASS = 1_000
_REOFFERS_PER_PASS = 500
# The most dead tasks of a stage that one walk reads. The number is small, as they come with their payloads.
_DEAD_PER_WALK = 100
# How long a dead task stays in the broker, for an operator who looks there. The dead letters in SQL stay.
_DEAD_KEPT_SECONDS = 3_600.0
# A deletion that failed all its attempts is tried again in every tenth walk.
_WALKS_PER_DEAD_DELETION = 10


class Reconciler:
    """Keeps the broker filled from SQL."""

    def __init__(
        self,
        *,
        database: Database,
        broker: Broker,
        clock: Clock,
        tenants: TenantsSettings,
        metrics: Metrics,
        reconcile_seconds: float = 5.0,
        backfill_weight: float = 0.5,
        held_twins: HeldTwins | None = None,
    ) -> None:
        """`backfill_weight`: of the documents that switches to other models embed again, all together.

        `held_twins`: which of their jobs are not offered yet; without it, none is held.
        """
        self._database = database
        self._broker = broker
        self._clock = clock
        self._tenants = tenants
        self._known_shares: dict[str, TenantShare] = {}
        self._known_epoch: str | None = None
        self._metrics = metrics
        self._reconcile_seconds = reconcile_seconds
        self._backfill_weight = backfill_weight
        self._held_twins = held_twins or HeldTwins()
        # The id of the last job that the walk has looked at; None between two walks.
        self._walked_to: str | None = None
        self._next_walk_at = float("-inf")
        self._walks = 0

    async def notice_lost_broker(self) -> None:
        """Put every unfinished job back into the outbox if the broker may have lost its memory.

        A broker that restarted empty, was flushed or was replaced has another epoch than the one in SQL.
        """
        epoch = await self._broker.epoch()
        if epoch == self._known_epoch:
            return
        unfinished = await self._database.write(lambda conn: _new_epoch(conn, epoch))
        if unfinished:
            logger.info("the broker is new or empty: {} unfinished jobs are offered to it", unfinished)
            self._metrics.reoffered_jobs_total.labels("broker_lost").inc(unfinished)
        # At once, even if no job waits: an older release left tenants at their cap out of the lanes of Redis,
        # and only a set share brings those back that have work.
        self._known_shares.clear()
        await self._set_shares()
        self._known_epoch = epoch

    async def offer_jobs(self) -> int:
        """Offer jobs from the outbox to the broker. Returns how many."""
        until = self._held_twins.now()
        waiting = await self._database.read(
            lambda conn: outbox.unoffered(conn, _OFFERS_PER_PASS, twins_until=until)
        )
        if not waiting:
            return 0
        await self._set_shares()
        await offer(self._broker, Stage.CHUNKING, [_chunking_task(job) for job in waiting])
        now = self._clock.now()
        # Mark after the offer. A crash in between repeats the offer, which is harmless. In the other order, a
        # crash would lose the job.
        await self._database.write(lambda conn: outbox.mark_offered(conn, waiting, now))
        return len(waiting)

    async def offer_cleanups(self) -> None:
        """Offer a deletion task for documents that wait for a cleanup. The broker ignores those it has."""
        waiting = await self._database.read(
            lambda conn: document_cleanup.awaiting_cleanup(conn, _OFFERS_PER_PASS)
        )
        tasks = [_deletion_task(tenant, document_id) for tenant, document_id in waiting]
        if tasks:
            await self._broker.enqueue(Stage.DELETION, tasks)

    async def find_lost(self) -> int:
        """Do one pass of a walk over all unfinished jobs, which puts jobs with lost tasks into the outbox.

        Returns how many jobs. Between two walks it does nothing. Two leaders at once do no harm: a job that
        the other has put back or offered is left alone.
        """
        now = self._clock.now()
        if self._walked_to is None:
            if now < self._next_walk_at:
                return 0
            self._next_walk_at = now + self._reconcile_seconds
            self._walks += 1
            # An operator may have changed the weight of a tenant whose work is offered already.
            await self._set_shares()
            await self._tidy_dead(now)
        after = self._walked_to or ""
        page = await self._database.read(
            lambda conn: outbox.offered_page(
                conn, after=after, until=now - self._reconcile_seconds, limit=_JOBS_PER_PASS
            )
        )
        # Read SQL before the broker is asked, or a job that moves in between would look lost.
        known = await self._broker.known_jobs([job.job_id for job in page])
        lost = [job for job in page if job.job_id not in known]
        again = lost[:_REOFFERS_PER_PASS]
        self._walked_to = _walked_to(page, lost)
        return await self._offer_again(again) if again else 0

    async def _offer_again(self, lost: Sequence[OfferedJob]) -> int:
        again = await self._database.write(lambda conn: outbox.offer_unmoved_again(conn, lost))
        if again:
            logger.warning(
                "the broker lost the tasks of {} jobs, e.g. {}: offered again", again, lost[0].job_id
            )
            self._metrics.reoffered_jobs_total.labels("tasks_lost").inc(again)
        return again

    async def _tidy_dead(self, now: float) -> None:
        """Drop old dead tasks that SQL no longer needs, a few in each walk. Try dead deletions again."""
        for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE):
            dead = await self._broker.dead(stage, limit=_DEAD_PER_WALK)
            wanted = await self._wanted(jobs.unfinished_among, dead)
            await self._drop_old(stage, [one for one in dead if one.task.job_id not in wanted], now)
        dead = await self._broker.dead(Stage.DELETION, limit=_DEAD_PER_WALK)
        wanted = await self._wanted(document_cleanup.asking_for_cleanup, dead)
        await self._drop_old(Stage.DELETION, [one for one in dead if one.task.job_id not in wanted], now)
        if wanted and self._walks % _WALKS_PER_DEAD_DELETION == 0:
            await self._broker.requeue_dead(
                Stage.DELETION, [one.task.id for one in dead if one.task.job_id in wanted]
            )

    async def _wanted(
        self, look: Callable[[Connection, Sequence[str]], set[str]], dead: Sequence[DeadTask]
    ) -> set[str]:
        ids = sorted({one.task.job_id for one in dead})
        return await self._database.read(lambda conn: look(conn, ids)) if ids else set()

    async def _drop_old(self, stage: Stage, dead: Sequence[DeadTask], now: float) -> None:
        old = [one.task.id for one in dead if one.died_at <= now - _DEAD_KEPT_SECONDS]
        if old:
            await self._broker.drop_dead(stage, old)

    async def _set_shares(self) -> None:
        shares = {one.tenant: self._share(one) for one in await self._database.read(tenants.get_all)}
        shares[BACKFILL_FLOW] = TenantShare(weight=self._backfill_weight)
        changed = {t: share for t, share in shares.items() if self._known_shares.get(t) != share}
        if changed:
            await self._broker.set_shares(changed)
            self._known_shares |= changed

    def _share(self, row: TenantRow) -> TenantShare:
        return TenantShare(weight=limits_of(self._tenants, row.tier, row.limits).values.weight)


def _new_epoch(conn: Connection, epoch: str) -> int:
    known = fleet.broker_epoch(conn)
    if known == epoch:
        return 0
    fleet.set_broker_epoch(conn, epoch)
    if known is not None and set(known.split(",")) <= set(epoch.split(",")):
        return 0  # it has more parts than before, and none is lost
    return outbox.offer_all_again(conn)


def _walked_to(page: Sequence[OfferedJob], lost: Sequence[OfferedJob]) -> str | None:
    """Return the id of the job after which the next pass goes on; None at the end of the walk."""
    if len(lost) > _REOFFERS_PER_PASS:
        return lost[_REOFFERS_PER_PASS - 1].job_id
    return page[-1].job_id if len(page) == _JOBS_PER_PASS else None


def _chunking_task(job: WaitingJob) -> Task:
    return Task(
        id=f"{job.job_id}:{job.run}",
        tenant=job.line,
        job_id=job.job_id,
        cost=1 + job.chars // _CHARS_PER_TOKEN,
        payload=ChunkingTask(tenant=job.tenant, job_id=job.job_id).encode(),
        priority=job.priority,
    )


def _deletion_task(tenant: str, document_id: str) -> Task:
    message = DeletionTask(tenant=tenant, job_id=document_id, document_id=document_id)
    return Task(id=document_id, tenant=tenant, job_id=document_id, cost=1, payload=message.encode())
