"""The operations on submitted jobs within a scope: the rows of one tenant, or of all tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.document_filter import EVERY_DOCUMENT, DocumentFilter
from embedfleet.errors import InvalidRequest, Remedy, UnknownDeadLetter, UnknownJob, UnknownReceipt
from embedfleet.explanation import stages_left
from embedfleet.lifecycle import ending, retrying
from embedfleet.queue_schemas import (
    CollectionInfo,
    DeadLetterInfo,
    DocumentInfo,
    JobEvent,
    JobInfo,
    JobStatus,
    JobTotals,
    Receipt,
    ReceiptState,
    RefusedJob,
    Requeued,
    Stage,
)
from embedfleet.records import (
    collections,
    dead_letters,
    document_info,
    events,
    fleet,
    job_counts,
    jobs,
    receipts,
)
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.fleet import RunningOrchestrator
from embedfleet.records.job_info import job_infos
from embedfleet.records.jobs import Job, JobFilter
from embedfleet.records.scope import Scope
from embedfleet.sql.database import Database
from embedfleet.tracking.job_ends import OpenJobs

_NO_ORCHESTRATOR = "an orchestrator: none is running with this database, so look at the settings or start one"

_PAGE = 1_000  # documents in one read
_MOST_NAMED = 5  # of the jobs that the start of an id may mean


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
            lambda conn: self._infos(conn, [self._known(jobs.get(conn, job_id), job_id)])[0]
        )

    async def find_job_id(self, start: str) -> str:
        """Return the id of the only job whose id starts with this text.

        Ids start with their time, so jobs of one second share up to their first dozen characters. Raises
        UnknownJob if there is no such job, InvalidRequest if there are several.
        """
        found = await self._database.read(
            lambda conn: jobs.ids_that_start_with(conn, self._scope, start, _MOST_NAMED + 1)
        )
        if not found:
            raise _unknown_job(start)
        if len(found) > 1:
            more = ", …" if len(found) > _MOST_NAMED else ""
            raise InvalidRequest(
                f"several jobs start with `{start}`: {', '.join(found[:_MOST_NAMED])}{more}: "
                "give more of the id"
            )
        return found[0]

    async def statuses(self, job_ids: Sequence[str]) -> list[JobInfo]:
        """Return the states of those jobs that exist, in any order, from one read."""

        def look(conn: Connection) -> list[JobInfo]:
            found = jobs.get_many(conn, job_ids).values()
            return self._infos(conn, [job for job in found if self._scope.holds(job.tenant)])

        return await self._database.read(look)

    async def list_jobs(
        self,
        *,
        status: JobStatus | None = None,
        media_id: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[JobInfo]:
        """Return up to `limit` jobs, newest first: all, or those in this status, of this document, or that
        were submitted within these times (half-open).

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        which = JobFilter(status, media_id, created_from, created_before)

        def look(conn: Connection) -> Page[JobInfo]:
            found = jobs.page(conn, self._scope, which=which, limit=limit, after=after)
            return Page(self._infos(conn, found), next_cursor=found.next_cursor)

        return await self._database.read(look)

    async def list_documents(
        self,
        *,
        prefix: str = "",
        matching: DocumentFilter = EVERY_DOCUMENT,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[DocumentInfo]:
        """Return up to `limit` documents that are not deleted, by tenant and media id.

        With `prefix`, only those whose source starts with it; with `matching`, only those that the filter
        means. For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for
        another text.
        """
        require_limit(limit)
        return await self._database.read(
            lambda conn: document_info.page(
                conn, self._scope, source_prefix=prefix, matching=matching, limit=limit, after=after
            )
        )

    async def list_collections(self) -> list[CollectionInfo]:
        """Return the collections of vectors, oldest first: a tenant has one for each space."""
        return await self._database.read(lambda conn: collections.described(conn, self._scope))

    async def all_documents(
        self, *, prefix: str = "", matching: DocumentFilter = EVERY_DOCUMENT
    ) -> AsyncIterator[DocumentInfo]:
        """Yield all documents of `list_documents`, page by page."""
        after: str | None = None
        while True:
            page = await self.list_documents(prefix=prefix, matching=matching, limit=_PAGE, after=after)
            for document in page:
                yield document
            after = page.next_cursor
            if after is None:
                return

    async def wait(self, job_id: str, *, timeout_seconds: float | None = None) -> JobInfo:
        """Return when the job has ended. Raises TimeoutError as `wait_many` does, UnknownJob."""
        ended = await self.wait_many([job_id], timeout_seconds=timeout_seconds)
        if job_id not in ended:
            raise _unknown_job(job_id)
        return ended[job_id]

    async def wait_many(
        self, job_ids: Iterable[str], *, timeout_seconds: float | None = None
    ) -> dict[str, JobInfo]:
        """Return when all of these jobs have ended: how each ended, by job id, in the given order.

        A job that is dropped during the wait, because its document was deleted, is left out. Raises
        TimeoutError, which names a job that has not ended, its status and what it waits for; the jobs go on.
        Raises UnknownJob if any job does not exist when the wait begins. To get each job as soon as it has
        ended, use `as_completed`.
        """
        job_ids = list(job_ids)
        ended: dict[str, JobInfo] = {}
        try:
            async with asyncio.timeout(timeout_seconds) as limit:
                async for info in self.as_completed(job_ids):
                    ended[info.job_id] = info
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise TimeoutError(await self._why_not_ended(job_ids, timeout_seconds or 0.0)) from exc
        return {job_id: ended[job_id] for job_id in job_ids if job_id in ended}

    async def as_completed(self, job_ids: Iterable[str]) -> AsyncIterator[JobInfo]:
        """Yield how each of these jobs ended, once, as soon as it has ended.

        The wait costs by how many jobs end, and not by how many are open. A job that is retried before its
        end was noticed is yielded after its next end. A job that is dropped during the wait, because its
        document was deleted, is left out. Raises UnknownJob at once if any job does not exist.
        """
        wanted = list(job_ids)
        # Asked now: a job of another tenant must count as unknown at once, and not when it has ended.
        tenants = await self._database.read(lambda conn: jobs.tenants_of(conn, wanted))
        for job_id in wanted:
            if job_id not in tenants or not self._scope.holds(tenants[job_id]):
                raise _unknown_job(job_id)
        async for info in OpenJobs(self._database, self._scope, wanted).ended():
            yield info

    async def totals(self, *, since: datetime) -> JobTotals:
        """Return sums over the jobs that were submitted at `since` or later, for a progress bar.

        One statement reads them. Its cost grows with the number of these jobs, about a millisecond for each
        thousand, so ask for it about once a second. Over all tenants it reads every job there is.
        """
        return await self._database.read(lambda conn: job_counts.totals(conn, self._scope, since.timestamp()))

    async def events(self, *, after: int = 0, limit: int = 100) -> list[JobEvent]:
        """Return up to `limit` events of ended jobs with a position above `after`, in the order of positions.

        For the next page, pass the position of the last event as `after`. Events are kept for
        `events.keep_days`. A running orchestrator gives the positions. If none runs when a job ends, its
        event appears after the next start of an orchestrator.
        """
        require_limit(limit)
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

    # --- receipts of deletions ---

    async def receipt(self, receipt_id: str) -> Receipt:
        """Return a receipt of a deletion as it is now. Raises UnknownReceipt."""
        found = await self._database.read(lambda conn: receipts.get(conn, self._scope, receipt_id))
        if found is None:
            raise UnknownReceipt(
                f"no receipt `{receipt_id}`: list the receipts to see which there are",
                remedy=Remedy.LIST_RECEIPTS,
            )
        return found

    async def list_receipts(self, *, limit: int = 100, after: str | None = None) -> Page[Receipt]:
        """Return up to `limit` receipts of deletions, newest first.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        return await self._database.read(
            lambda conn: receipts.page(conn, self._scope, limit=limit, after=after)
        )

    async def searched_receipt(self, receipt_id: str) -> Receipt:
        """Return the receipt as soon as the deletion is done and was searched for what is left.

        Workers must be running somewhere. Raises UnknownReceipt.
        """

        async def look() -> Receipt | None:
            found = await self.receipt(receipt_id)
            return None if found.state is ReceiptState.PENDING else found

        return await self._database.until(look)

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

        refused = (await self.retry_many([job_id])).refused
        if refused:
            raise InvalidRequest(refused[0].reason)

    async def retry_many(self, job_ids: Sequence[str]) -> Requeued:
        """Run these ended jobs again, as `retry` does, in one transaction.

        A job that cannot run again is named in the result, and the others run. Raises UnknownJob, and then
        retries none.
        """

        def retry(conn: Connection) -> Requeued:
            found = jobs.lock_many(conn, job_ids)
            wanted = [self._known(found.get(job_id), job_id) for job_id in dict.fromkeys(job_ids)]
            refused: list[RefusedJob] = []
            for job in wanted:
                try:
                    retrying.retry(conn, job, self._clock.now())
                except InvalidRequest as exc:  # raised before the first write
                    refused.append(RefusedJob(job_id=job.job_id, reason=str(exc)))
            left_out = {one.job_id for one in refused}
            again = tuple(job.job_id for job in wanted if job.job_id not in left_out)
            return Requeued(jobs=again, refused=tuple(refused))

        return await self._database.write(retry)

    # --- dead letters ---

    async def list_dead_letters(
        self,
        *,
        job_id: str | None = None,
        stage: Stage | None = None,
        limit: int = 100,
        ended: bool = False,
        after: str | None = None,
    ) -> Page[DeadLetterInfo]:
        """Return up to `limit` open dead letters, newest first. With `ended`, return the ended letters too.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        return await self._database.read(
            lambda conn: dead_letters.page(
                conn, self._scope, job_id=job_id, stage=stage, ended=ended, limit=limit, after=after
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

    def _infos(self, conn: Connection, found: Sequence[Job]) -> list[JobInfo]:
        """Describe these jobs. An unfinished one says what it waits for: an orchestrator, or workers."""
        infos = job_infos(conn, found)
        if all(job.status.terminal for job in found):
            return infos
        running = fleet.running(conn, self._clock.now())
        return [info.model_copy(update={"waiting_for": _lack(info.status, running)}) for info in infos]

    async def _why_not_ended(self, job_ids: Sequence[str], seconds: float) -> str:
        unfinished = [info for info in await self.statuses(job_ids) if not info.status.terminal]
        if not unfinished:
            return f"the jobs had not ended after {seconds:g} s, but have by now"
        first = min(unfinished, key=lambda info: info.created_at)
        others = f" ({len(unfinished)} jobs have not ended)" if len(unfinished) > 1 else ""
        waits = "it goes on" if first.waiting_for is None else f"it waits for {first.waiting_for}"
        return f"job {first.job_id} is `{first.status}` after {seconds:g} s: {waits}{others}"

    def _locked(self, conn: Connection, job_id: str) -> Job:
        """Lock the job until the unit ends, and return it. Raises UnknownJob."""
        return self._known(jobs.lock(conn, job_id), job_id)

    def _known(self, job: Job | None, job_id: str) -> Job:
        """Return the job if it exists within the scope.

        Raises UnknownJob.
        """
        if job is None or not self._scope.holds(job.tenant):
            raise _unknown_job(job_id)
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


def _lack(status: JobStatus, running: Sequence[RunningOrchestrator]) -> str | None:
    """Return what a job of this status needs and no host has; None if nothing is missing."""
    if status.terminal:
        return None
    if not running:
        return _NO_ORCHESTRATOR
    for stage in stages_left(status):
        if not any(stage in host.pools and host.pools[stage].most for host in running):
            return f"a worker for {stage}: no host may have one, so change the size of that pool"
    return None


def _unknown_job(job_id: str) -> UnknownJob:
    """Return the error for a job outside the scope, or one that does not exist.

    The message is the same for both, so that a tenant learns nothing about the jobs of others.
    """
    return UnknownJob(f"no job `{job_id}`: list the jobs to see which there are", remedy=Remedy.LIST_JOBS)


def _one_of(**given: object) -> None:
    """Raise InvalidRequest unless exactly one of these arguments is given."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InvalidRequest(f"name exactly one of {', '.join(given)} (got {', '.join(named) or 'none'})")
