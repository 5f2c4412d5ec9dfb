"""The operations on submitted jobs within a scope: the rows of one tenant, or of all tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import InvalidRequest, Remedy, UnknownDeadLetter, UnknownJob
from embedfleet.lifecycle import ending, retrying
from embedfleet.queue_schemas import (
    DeadLetterInfo,
    JobEvent,
    JobInfo,
    JobStatus,
    RefusedJob,
    Requeued,
    Stage,
)
from embedfleet.records import dead_letters, events, jobs
from embedfleet.records.job_info import job_info, job_infos
from embedfleet.records.jobs import Job
from embedfleet.records.scope import Scope
from embedfleet.sql.database import Database


class ScopedJobs:
    """The jobs and dead letters within one scope. A row outside the scope counts as unknown.

    It needs SQL only. Any method may raise DatabaseUnavailable; a method that writes may raise StorageFull.
    """

    def __init__(self, database: Database, clock: Clock, scope: Scope) -> None:
        self._database = database
        self._clock = clock
        self._scope = scope

    # --- look ---

    async def status(self, job_id: str) -> JobInfo:
        """Return the present state of the job. Raises UnknownJob."""
        return await self._database.read(
            lambda conn: job_info(conn, self._known(jobs.get(conn, job_id), job_id))
        )

    async def statuses(self, job_ids: Sequence[str]) -> list[JobInfo]:
        """Return the states of those jobs that exist, in any order, from one read."""

        def look(conn: Connection) -> list[JobInfo]:
            found = jobs.get_many(conn, job_ids).values()
            return job_infos(conn, [job for job in found if self._scope.holds(job.tenant)])

        return await self._database.read(look)

    async def list_jobs(
        self, *, status: JobStatus | None = None, limit: int = 100, before: datetime | None = None
    ) -> list[JobInfo]:
        """Return up to `limit` jobs, newest first.

        For the next page, pass the `created_at` of the last job as `before`.
        """
        until = None if before is None else before.timestamp()

        def look(conn: Connection) -> list[JobInfo]:
            return job_infos(conn, jobs.page(conn, self._scope, status=status, limit=limit, before=until))

        return await self._database.read(look)

    async def wait(self, job_id: str, *, timeout_seconds: float | None = None) -> JobInfo:
        """Return when the job has ended. Raises TimeoutError (the job goes on), UnknownJob."""

        def look(conn: Connection) -> JobInfo | None:
            # This look happens after every write of any process. So ask the index first whether the job has
            # ended, and read the rest only then.
            if not jobs.has_ended(conn, job_id):
                return None
            return job_info(conn, self._known(jobs.get(conn, job_id), job_id))

        async with asyncio.timeout(timeout_seconds):
            # This raises UnknownJob now, and not when another tenant's job has ended.
            info = await self.status(job_id)
            if info.status.terminal:
                return info
            return await self._database.until(lambda: self._database.read(look))

    async def events(self, *, after: int = 0, limit: int = 100) -> list[JobEvent]:
        """Return up to `limit` events of ended jobs with a position above `after`, in the order of positions.

        For the next page, pass the position of the last event as `after`. Events are kept for
        `events.keep_days`. A running orchestrator gives the positions. If none runs when a job ends, its
        event appears after the next start of an orchestrator.
        """
        return await self._database.read(lambda conn: events.after(conn, self._scope, after, limit))

    async def follow_events(self, *, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events above the position `after`, then each new event. It never ends by itself.

        A reader that restarts from an earlier position gets events twice. It recognises them by `event_id`.
        """
        while True:
            for event in await self._database.until(partial(self._events_or_none, after)):
                after = event.position
                yield event

    async def _events_or_none(self, after: int) -> list[JobEvent] | None:
        return await self.events(after=after) or None

    # --- change ---

    async def cancel(self, job_id: str) -> bool:
        """End an unfinished job. Return False if it had ended already. Readers keep the generation they see.

        A worker that has a batch of the job in hand notices the end after that batch. Raises UnknownJob.
        """

        def cancel(conn: Connection) -> bool:
            return ending.cancel(conn, self._locked(conn, job_id), self._clock.now())

        return await self._database.write(cancel)

    async def retry(self, job_id: str) -> None:
        """Run an ended job again. The vectors it stored are kept; the chunks that failed are tried again.

        Raises UnknownJob. Raises InvalidRequest if the job has not ended or has nothing left to do, or if its
        document was deleted or submitted again.
        """

        def retry(conn: Connection) -> None:
            retrying.retry(conn, self._locked(conn, job_id), self._clock.now())

        await self._database.write(retry)

    # --- dead letters ---

    async def list_dead_letters(
        self,
        *,
        job_id: str | None = None,
        stage: Stage | None = None,
        limit: int = 100,
        ended: bool = False,
    ) -> list[DeadLetterInfo]:
        """Return the open dead letters, newest first. With `ended`, return the ended letters too."""
        return await self._database.read(
            lambda conn: dead_letters.page(
                conn, self._scope, job_id=job_id, stage=stage, ended=ended, limit=limit
            )
        )

    async def get_dead_letter(self, dead_letter_id: int) -> DeadLetterInfo:
        """Return one letter, open or ended. Raises UnknownDeadLetter."""
        return (await self._database.read(lambda conn: self._letters(conn, [dead_letter_id])))[0]

    async def requeue_dead_letters(
        self, ids: Sequence[int] | None = None, *, job_id: str | None = None
    ) -> Requeued:
        """Run the jobs of these letters again, as `retry` does. A job runs again for all of its letters.

        One job may be requeued and another refused: the result names both. Raises InvalidRequest unless
        exactly one of `ids` and `job_id` is given. Raises InvalidRequest too if every job is refused, because
        it still runs, has no open letter, or its document was deleted or submitted again. Raises
        UnknownDeadLetter or UnknownJob for an unknown id.
        """
        _one_of(ids=ids, job_id=job_id)
        requeued: list[str] = []
        refused: list[RefusedJob] = []
        for name, letters in (await self._letters_by_job(ids, job_id)).items():
            try:
                await self._database.write(partial(self._requeue, job_id=name, ids=letters))
                requeued.append(name)
            except InvalidRequest as exc:
                refused.append(RefusedJob(job_id=name, reason=str(exc)))
        if refused and not requeued:
            raise InvalidRequest("; ".join(one.reason for one in refused))
        return Requeued(jobs=tuple(requeued), refused=tuple(refused))

    async def purge_dead_letters(
        self,
        ids: Sequence[int] | None = None,
        *,
        job_id: str | None = None,
        before: datetime | None = None,
    ) -> int:
        """Mark these open letters as purged: their loss is accepted. Returns how many were open.

        The jobs still report the missing ranges of text. Raises InvalidRequest unless exactly one of `ids`,
        `job_id` and `before` is given. Raises UnknownDeadLetter or UnknownJob for an unknown id.
        """
        _one_of(ids=ids, job_id=job_id, before=before)

        def purge(conn: Connection) -> int:
            now = self._clock.now()
            if ids is not None:
                letters = self._letters(conn, ids)
                return dead_letters.mark_purged(conn, [letter.dead_letter_id for letter in letters], now)
            if job_id is not None:
                self._known(jobs.get(conn, job_id), job_id)
                return dead_letters.mark_purged_of_job(conn, job_id, now)
            assert before is not None
            return dead_letters.mark_purged_before(conn, self._scope, before.timestamp(), now)

        return await self._database.write(purge)

    async def _letters_by_job(self, ids: Sequence[int] | None, job_id: str | None) -> dict[str, list[int]]:
        """Return the ids of the chosen letters by job. An empty list means any open letter of the job."""
        if job_id is not None:
            return {job_id: []}
        by_job: dict[str, list[int]] = {}
        for letter in await self._database.read(lambda conn: self._letters(conn, ids or [])):
            by_job.setdefault(letter.job_id, []).append(letter.dead_letter_id)
        return by_job

    def _requeue(self, conn: Connection, job_id: str, ids: Sequence[int]) -> None:
        retrying.requeue(conn, self._locked(conn, job_id), ids, self._clock.now())

    # --- within the scope ---

    def _locked(self, conn: Connection, job_id: str) -> Job:
        """Lock the job until the unit ends, and return it. Raises UnknownJob."""
        return self._known(jobs.lock(conn, job_id), job_id)

    def _known(self, job: Job | None, job_id: str) -> Job:
        """Return the job if it exists within the scope.

        Raises UnknownJob. The message is the same for a job outside the scope and for one that does not
        exist, so that a tenant learns nothing about the jobs of others.
        """
        if job is None or not self._scope.holds(job.tenant):
            raise UnknownJob(
                f"no job `{job_id}`: list the jobs to see which there are", remedy=Remedy.LIST_JOBS
            )
        return job

    def _letters(self, conn: Connection, ids: Sequence[int]) -> list[DeadLetterInfo]:
        """Return the letters in the given order, each once. Raises UnknownDeadLetter."""
        found = dead_letters.get_many(conn, self._scope, ids)
        for one in ids:
            if one not in found:
                raise UnknownDeadLetter(
                    f"no dead letter `{one}`: list the dead letters to see which there are",
                    remedy=Remedy.LIST_DEAD_LETTERS,
                )
        return [found[one] for one in dict.fromkeys(ids)]


def _one_of(**given: object) -> None:
    """Raise InvalidRequest unless exactly one of these arguments is given."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InvalidRequest(f"name exactly one of {', '.join(given)} (got {', '.join(named) or 'none'})")
