"""Reads what is known of a job and of the queues, and says why its document is not searchable yet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Connection

from embedfleet import explanation
from embedfleet.clock import Clock
from embedfleet.errors import BrokerUnavailable, Remedy, UnknownDocument, UnknownJob
from embedfleet.eta import CHARS_PER_TOKEN
from embedfleet.explanation import JobExplanation, KnownOfJob, stage_of
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage
from embedfleet.records import backlog, document_info, identity, jobs, model_switches
from embedfleet.records.backlog import Ahead, Work
from embedfleet.records.job_info import job_info
from embedfleet.records.jobs import Job
from embedfleet.records.model_switches import HOLDING
from embedfleet.records.scope import Scope
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.tracking.workload import read_workload

# Enough to see what the tasks of a job wait for. A large document has thousands.
_TASKS_LOOKED_AT = 100
_NOTHING_AHEAD = Ahead(0.0, Work())


class Explainer:
    """Explains jobs and documents."""

    def __init__(self, database: Database, clock: Clock, settings: Settings, broker: Broker | None) -> None:
        """`broker` is None in a process that cannot ask the queues. What only they know is then left out."""
        self._database = database
        self._clock = clock
        self._tenants = settings.tenants
        self._embedding = settings.worker_pools.embedding
        self._broker = broker

    async def of_job(self, scope: Scope, job_id: str) -> JobExplanation:
        """Explain the job, which is within the scope. Raises UnknownJob."""

        def look(conn: Connection) -> KnownOfJob:
            job = jobs.get(conn, job_id)
            if job is None or not scope.holds(job.tenant):
                raise UnknownJob(
                    f"no job `{job_id}`: list the jobs to see which there are", remedy=Remedy.LIST_JOBS
                )
            return self._known(conn, job)

        return await self._explained(await self._database.read(look))

    async def of_document(self, tenant: str, media_id: str) -> JobExplanation:
        """Explain the newest job of the tenant's document. Raises UnknownDocument."""

        def look(conn: Connection) -> KnownOfJob:
            job = jobs.newest_of_document(conn, identity.document_id(tenant, media_id))
            if job is None:
                raise UnknownDocument(
                    f"tenant `{tenant}` has no document `{media_id}`: list its documents to see them",
                    remedy=Remedy.LIST_DOCUMENTS,
                )
            return self._known(conn, job)

        return await self._explained(await self._database.read(look))

    async def _explained(self, known: KnownOfJob) -> JobExplanation:
        stage = stage_of(known.info.status)
        if self._broker is not None and stage is not None:
            # While the broker is away, the pools say that they wait for it.
            with suppress(BrokerUnavailable):
                known = await self._with_queues(known, self._broker, stage)
        return explanation.explain(known)

    async def _with_queues(self, known: KnownOfJob, broker: Broker, stage: Stage) -> KnownOfJob:
        """Add what only the queues know: the job's tasks in its stage, and whether there is room after it."""
        info, room = known.info, self._embedding
        crowded = await broker.crowded(
            Stage.EMBEDDING,
            [info.tenant],
            max_tasks=room.max_queued_tasks,
            max_cost=room.max_queued_tokens,
        )
        tasks = await broker.tasks_of(stage, info.job_id, limit=_TASKS_LOOKED_AT)
        return replace(known, tasks=tasks, share_is_full=bool(crowded))

    def _known(self, conn: Connection, job: Job) -> KnownOfJob:
        load = read_workload(conn, self._tenants, self._clock.now())
        ahead = backlog.ahead_of(conn, [job.job_id]).get(job.job_id, _NOTHING_AHEAD)
        version = document_info.version_state(conn, job.document_id, job.generation_id)
        return KnownOfJob(
            info=job_info(conn, job),
            is_live=version.is_live,
            other_is_live=version.other_is_live,
            replaced=version.replaced,
            deleted=version.deleted,
            offered=job.offered_at is not None,
            offers_ahead=backlog.unoffered_before(conn, job.created_at),
            running=load.running,
            pools=load.pools,
            jobs_ahead=ahead.first.jobs,
            work=load.before(job.tenant, ahead),
            tokens_left=ahead.chars / CHARS_PER_TOKEN,
            other_tenants=load.others_than(job.tenant),
            waits_for_model=_waits_for_model(conn, job),
        )


def _waits_for_model(conn: Connection, job: Job) -> str | None:
    """Return the other model of the tenant's switch, if the job ends together with its twin for that one."""
    switch = model_switches.running_of(conn, [job.tenant]).get(job.tenant)
    if switch is None or switch.phase not in HOLDING or job.switch_id is not None:
        return None
    unfinished = jobs.unfinished_of_documents(conn, [job.document_id]).get(job.document_id, ())
    twins = [one for one in unfinished if one.switch_id == switch.switch_id]
    return job_info(conn, twins[0]).model if twins else None
