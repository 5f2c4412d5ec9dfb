"""Admit, track, cancel and retry jobs. Needs SQL only: no broker, no vector store, no running worker.

A job is submitted by one SQL transaction; a running orchestrator finds it there (the transactional outbox)
and offers it to its workers. So any process that can open the database can submit and watch, and a job
submitted while nothing runs waits for the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import InvalidRequest, UnknownDeadLetter, UnknownJob
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending, retrying
from embedfleet.lifecycle.admission import Admission, UnreadableSource, request_from
from embedfleet.queue_schemas import (
    ChunkingConfig,
    DeadLetterInfo,
    JobEvent,
    JobInfo,
    JobRequest,
    JobStatus,
    RefusedJob,
    Requeued,
    Stage,
    UserTier,
)
from embedfleet.records import dead_letters, documents, events, identity, jobs
from embedfleet.records.job_info import job_info, job_infos
from embedfleet.records.jobs import Job
from embedfleet.settings import Settings, load_settings
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.sql.tables import GenerationState


class JobManagerConfig(BaseModel):
    """What a job manager needs to know; by default the settings of the environment."""

    model_config = ConfigDict(frozen=True)

    settings: Settings = Field(default_factory=load_settings)


class EmbeddingJobManager:
    """The jobs of all tenants. Create, `initialize`, use from one event loop, `close`.

    `user_id` is the tenant. Methods that name a job take the tenant too: pass it whenever the caller is not
    trusted, then another tenant's job is as unknown as one that never was.
    """

    def __init__(
        self,
        config: JobManagerConfig | None = None,
        *,
        database: Database | None = None,
        catalogue: Catalogue | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`database`, `catalogue`: those of this process, if it has them; else the manager makes its own."""
        self._settings = (config or JobManagerConfig()).settings
        self._clock = clock or SystemClock()
        self._catalogue = catalogue or Catalogue(self._settings.models)
        self._admission = Admission(self._settings, self._catalogue, self._clock)
        self._shared_database = database
        self._own_database: Database | None = None

    async def initialize(self) -> None:
        """Open the database, creating or upgrading it. Raises ConfigError if that cannot be done."""
        if self._shared_database is None and self._own_database is None:
            database = open_database(self._settings)
            await database.open()
            self._own_database = database

    async def close(self) -> None:
        """Release what `initialize` opened. May be called twice."""
        if self._own_database is not None:
            await self._own_database.close()
            self._own_database = None

    async def __aenter__(self) -> EmbeddingJobManager:
        await self.initialize()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @property
    def _database(self) -> Database:
        database = self._shared_database or self._own_database
        if database is None:
            raise InvalidRequest("the job manager is not initialized: await initialize() first")
        return database

    # --- submit ---

    async def create_job(
        self,
        *,
        media_id: int | str,
        user_id: str,
        content: str,
        user_tier: UserTier = UserTier.FREE,
        content_type: str = "text",
        chunking_config: ChunkingConfig | None = None,
        priority: int = 50,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
    ) -> str:
        """Submit one version of a document; durable on return. Returns the job's id.

        A newer version supersedes an unfinished older one. The version readers already see completes at once;
        one that is already on its way is not begun twice: its job's id is returned.

        Raises InvalidRequest (priority outside 0-100, empty content, unknown content type …),
        UnknownModel, QuotaExceeded, StorageFull, DatabaseUnavailable.
        """
        request = request_from(
            media_id=media_id,
            user_id=user_id,
            content=content,
            user_tier=user_tier,
            content_type=content_type,
            chunking_config=chunking_config,
            priority=priority,
            model=model,
            source=source,
            source_hash=source_hash,
        )
        return (await self.create_jobs([request]))[0]

    async def create_jobs(self, requests: Sequence[JobRequest]) -> list[str]:
        """Submit many documents in one transaction: all are admitted or, on any error, none."""
        admission = self._admission
        submissions = await asyncio.to_thread(lambda: [admission.prepare(request) for request in requests])
        return await self._database.write(lambda conn: admission.admit(conn, submissions))

    async def record_unreadable(
        self,
        *,
        media_id: str,
        user_id: str,
        reason: str,
        user_tier: UserTier = UserTier.FREE,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
    ) -> str:
        """Note that a version of a document could not be turned into text, as a failed job with a dead letter
        that can be found. Returns the job's id; told again of the same bytes, that of the first time.

        Readers keep the version they see. Raises UnknownModel, StorageFull, DatabaseUnavailable.
        """
        info = self._catalogue.info(model or self._settings.models.default)
        what = UnreadableSource(user_id, media_id, user_tier, reason, info, source, source_hash)
        return await self._database.write(lambda conn: self._admission.note_unreadable(conn, what))

    @property
    def default_chunking(self) -> ChunkingConfig:
        """The chunking of jobs that bring none."""
        return self._admission.default_chunking

    # --- look ---

    async def get_job_status(self, job_id: str, *, user_id: str | None = None) -> JobInfo:
        """Where the job is now. Raises UnknownJob."""
        return await self._database.read(
            lambda conn: job_info(conn, _require(jobs.get(conn, job_id), job_id, user_id))
        )

    async def list_jobs(
        self,
        *,
        user_id: str | None = None,
        status: JobStatus | None = None,
        limit: int = 100,
        before: datetime | None = None,
    ) -> list[JobInfo]:
        """Jobs, newest first; `before` (the last one's `created_at`) gets the next page."""
        until = None if before is None else before.timestamp()

        def look(conn: Connection) -> list[JobInfo]:
            found = jobs.page(conn, tenant=user_id, status=status, limit=limit, before=until)
            return job_infos(conn, found)

        return await self._database.read(look)

    async def count_jobs(self) -> dict[JobStatus, int]:
        """How many jobs of all tenants are in each status."""
        return await self._database.read(jobs.count_by_status)

    async def get_job_statuses(self, job_ids: Sequence[str]) -> list[JobInfo]:
        """The jobs that exist of these, in no particular order; one read for all."""
        return await self._database.read(
            lambda conn: job_infos(conn, list(jobs.get_many(conn, job_ids).values()))
        )

    async def wait(
        self, job_id: str, *, user_id: str | None = None, timeout_seconds: float | None = None
    ) -> JobInfo:
        """Return when the job has ended. Raises TimeoutError (the job goes on), UnknownJob."""
        async with asyncio.timeout(timeout_seconds):
            seen = await self._database.version()
            info = await self.get_job_status(job_id, user_id=user_id)
            while not info.status.terminal:
                seen = await self._database.wait_for_write(seen, timeout_seconds=1.0)
                if await self._database.read(lambda conn: jobs.has_ended(conn, job_id)):
                    info = await self.get_job_status(job_id, user_id=user_id)
            return info

    async def events(self, *, user_id: str | None = None, after: int = 0, limit: int = 100) -> list[JobEvent]:
        """How jobs ended, in order, from beyond the position `after`; the last one's position gets the next
        page. Kept for `events.keep_days`. Positions are given by a running orchestrator: what ends while none
        runs is seen when one does."""
        return await self._database.read(lambda conn: events.after(conn, after, limit, tenant=user_id))

    async def follow_events(self, *, user_id: str | None = None, after: int = 0) -> AsyncIterator[JobEvent]:
        """`events`, and then each new one as it comes; never ends by itself. Begun again from a position of
        which it is not sure, a reader tells by `event_id` what it has seen."""
        while True:
            seen = await self._database.version()
            found = await self.events(user_id=user_id, after=after)
            for event in found:
                after = event.position
                yield event
            if not found:
                await self._database.wait_for_write(seen, timeout_seconds=1.0)

    async def find_job(
        self,
        *,
        media_id: str,
        user_id: str,
        source_hash: str,
        chunking_config: ChunkingConfig | None = None,
        model: str | None = None,
    ) -> JobInfo | None:
        """The job that made, or is making, exactly this: the same source, cut and embedded alike.

        Lets a caller skip reading a file again. None if the document is new, changed or deleted.
        """
        info = self._catalogue.info(model or self._settings.models.default)
        chunking = chunking_config or self.default_chunking
        document_id = identity.document_id(user_id, media_id)

        def look(conn: Connection) -> JobInfo | None:
            if documents.is_deleted(conn, document_id):
                return None
            for made in documents.generations_of(conn, document_id):
                same = made.recipe.source_hash == source_hash and made.recipe.chunking == chunking
                if same and made.collection.space == info.space and made.state is not GenerationState.RETIRED:
                    job = jobs.newest_of_generation(conn, made.generation_id)
                    return None if job is None else job_info(conn, job)
            return None

        return await self._database.read(look)

    async def list_sources(self, *, user_id: str, prefix: str = "") -> dict[str, str]:
        """Media ids by source, of the tenant's live documents whose source starts with `prefix`."""
        found = await self._database.read(lambda conn: documents.live_by_source(conn, user_id, prefix))
        return {document.source: document.media_id for document in found if document.source is not None}

    async def cleanups_left(self) -> bool:
        """Whether leftovers of replaced, cancelled or deleted documents are still to be removed."""
        return bool(await self._database.read(lambda conn: documents.awaiting_cleanup(conn, 1)))

    async def wait_for_cleanups(self) -> None:
        """Return when nothing is left over (workers must be running somewhere)."""
        while True:
            seen = await self._database.version()
            if not await self.cleanups_left():
                return
            await self._database.wait_for_write(seen, timeout_seconds=1.0)

    # --- change ---

    async def cancel_job(self, job_id: str, *, user_id: str | None = None) -> bool:
        """End an unfinished job; what readers saw before stays. False if it had ended already.

        Cooperative: a worker in the middle of a batch notices at the batch's end. Raises UnknownJob.
        """

        def cancel(conn: Connection) -> bool:
            job = _require(jobs.lock(conn, job_id), job_id, user_id)
            return ending.cancel(conn, job, self._clock.now())

        return await self._database.write(cancel)

    async def retry_job(self, job_id: str, *, user_id: str | None = None) -> None:
        """Run an ended job again; what it stored is kept, what failed is done anew.

        Raises InvalidRequest if it has not ended, has nothing left to do, or its document was deleted or
        submitted anew; UnknownJob.
        """

        def retry(conn: Connection) -> None:
            job = _require(jobs.lock(conn, job_id), job_id, user_id)
            retrying.retry(conn, job, self._clock.now())

        await self._database.write(retry)

    # --- dead letters ---

    async def list_dead_letters(
        self,
        *,
        user_id: str | None = None,
        job_id: str | None = None,
        stage: Stage | None = None,
        limit: int = 100,
        ended: bool = False,
    ) -> list[DeadLetterInfo]:
        """What was given up and nothing was done about yet, newest first; with `ended`, the history too."""
        return await self._database.read(
            lambda conn: dead_letters.page(
                conn, tenant=user_id, job_id=job_id, stage=stage, ended=ended, limit=limit
            )
        )

    async def get_dead_letter(self, dead_letter_id: int, *, user_id: str | None = None) -> DeadLetterInfo:
        """One letter, open or ended. Raises UnknownDeadLetter."""
        return (await self._database.read(lambda conn: _letters(conn, [dead_letter_id], user_id)))[0]

    async def requeue_dead_letters(
        self, ids: Sequence[int] | None = None, *, job_id: str | None = None, user_id: str | None = None
    ) -> Requeued:
        """Run the jobs of these letters again as `retry_job` does; all letters of a job go with it.

        Each job is decided by itself. Raises InvalidRequest if none can run again (still running, nothing
        open, document deleted or submitted anew), UnknownDeadLetter, UnknownJob.
        """
        _one_of(ids=ids, job_id=job_id)
        requeued: list[str] = []
        refused: list[RefusedJob] = []
        for name, letters in (await self._letters_by_job(ids, job_id, user_id)).items():
            try:
                await self._database.write(partial(self._requeue, job_id=name, ids=letters, user_id=user_id))
                requeued.append(name)
            except InvalidRequest as exc:
                refused.append(RefusedJob(job_id=name, reason=str(exc)))
        if refused and not requeued:
            raise InvalidRequest("; ".join(one.reason for one in refused))
        return Requeued(jobs=tuple(requeued), refused=tuple(refused))

    async def _letters_by_job(
        self, ids: Sequence[int] | None, job_id: str | None, user_id: str | None
    ) -> dict[str, list[int]]:
        if job_id is not None:
            return {job_id: []}
        by_job: dict[str, list[int]] = {}
        for letter in await self._database.read(lambda conn: _letters(conn, ids or [], user_id)):
            by_job.setdefault(letter.job_id, []).append(letter.dead_letter_id)
        return by_job

    def _requeue(self, conn: Connection, job_id: str, ids: Sequence[int], user_id: str | None) -> None:
        """`ids`: those meant; empty: whichever are open."""
        job = _require(jobs.lock(conn, job_id), job_id, user_id)
        retrying.requeue(conn, job, ids, self._clock.now())

    async def purge_dead_letters(
        self,
        ids: Sequence[int] | None = None,
        *,
        job_id: str | None = None,
        before: datetime | None = None,
        user_id: str | None = None,
    ) -> int:
        """Accept the loss of these open letters; returns how many. Their jobs go on naming what is missing.

        Raises InvalidRequest unless exactly one of `ids`, `job_id` and `before` is given, UnknownDeadLetter,
        UnknownJob.
        """
        _one_of(ids=ids, job_id=job_id, before=before)

        def purge(conn: Connection) -> int:
            now = self._clock.now()
            if ids is not None:
                letters = _letters(conn, ids, user_id)
                return dead_letters.mark_purged(conn, [letter.dead_letter_id for letter in letters], now)
            if job_id is not None:
                _require(jobs.get(conn, job_id), job_id, user_id)
                return dead_letters.mark_purged_of_job(conn, job_id, now)
            assert before is not None
            return dead_letters.mark_purged_before(conn, before.timestamp(), now, tenant=user_id)

        return await self._database.write(purge)

    # --- delete ---

    async def delete_document(self, *, media_id: int | str, user_id: str) -> bool:
        """Hide the document at once and have everything of it deleted. False if there is none."""
        document_id = identity.document_id(user_id, str(media_id))

        def remove(conn: Connection) -> bool:
            document_lock.lock(conn, [document_id])
            return ending.delete_document(conn, document_id, self._clock.now())

        return await self._database.write(remove)


def _require(job: Job | None, job_id: str, user_id: str | None) -> Job:
    if job is None or (user_id is not None and job.tenant != user_id):
        raise UnknownJob(f"no job `{job_id}`: `embedfleet jobs list` shows those there are")
    return job


def _letters(conn: Connection, ids: Sequence[int], user_id: str | None) -> list[DeadLetterInfo]:
    """The letters in the order asked for. Raises UnknownDeadLetter."""
    found = dead_letters.get_many(conn, ids, tenant=user_id)
    for one in ids:
        if one not in found:
            raise UnknownDeadLetter(
                f"no dead letter `{one}`: `embedfleet dlq list --ended` shows those there are"
            )
    return [found[one] for one in dict.fromkeys(ids)]


def _one_of(**given: object) -> None:
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InvalidRequest(f"name exactly one of {', '.join(given)} (got {', '.join(named) or 'none'})")
