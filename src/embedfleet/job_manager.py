"""Admit, track, cancel and retry jobs. Needs SQL only: no broker, no vector store, no running worker.

A job is submitted by one SQL transaction; a running orchestrator finds it there (the transactional outbox)
and offers it to its workers. So any process that can open the database can submit and watch, and a job
submitted while nothing runs waits for the next start.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from embedfleet import quota
from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.chunking.segments import segment_spans
from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import InvalidRequest, QuotaExceeded, UnknownDeadLetter, UnknownJob
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import (
    CharRange,
    ChunkingConfig,
    ContentType,
    DeadLetterInfo,
    JobEvent,
    JobInfo,
    JobProgress,
    JobRequest,
    JobStatus,
    RefusedJob,
    Requeued,
    Stage,
    UserTier,
)
from embedfleet.settings import Settings, load_settings
from embedfleet.storage import chunks, dead_letters, document_lock, documents, events, identity, jobs, usage
from embedfleet.storage.collections import collection_name
from embedfleet.storage.data_dir import create_data_dir
from embedfleet.storage.database import Database
from embedfleet.storage.dead_letters import DeadLetter
from embedfleet.storage.jobs import Job
from embedfleet.storage.tables import DeadLetterEnd, GenerationState


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
        clock: Clock | None = None,
    ) -> None:
        self._settings = (config or JobManagerConfig()).settings
        self._clock = clock or SystemClock()
        self._catalogue = Catalogue(self._settings.models)
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
        submissions = await asyncio.to_thread(lambda: [self._prepare(request) for request in requests])
        return await self._database.write(lambda conn: self._admit_all(conn, submissions))

    def _prepare(self, request: JobRequest) -> _Submission:
        """All the work that needs no transaction: cut, hash, compress."""
        model = self._catalogue.info(request.model or self._settings.models.default)
        digest = identity.ContentHash()
        segments: list[documents.Segment] = []
        for ordinal, (start, end) in enumerate(segment_spans(request.content)):
            text = request.content[start:end]
            digest.update(text)
            segments.append(documents.Segment.of(ordinal, start, text))
        version = documents.Version(
            content_hash=digest.hexdigest(),
            source_hash=request.source_hash,
            content_type=request.content_type,
            chars=len(request.content),
            chunking=request.chunking_config or self.default_chunking,
            batch_chunks=self._settings.chunking.batch_chunks,
        )
        return _Submission(request, model, version, segments)

    def _admit_all(self, conn: Connection, submissions: Sequence[_Submission]) -> list[str]:
        tiers = {one.request.user_id: one.request.user_tier for one in submissions}
        for tenant_id in sorted(tiers):
            usage.set_tier(conn, tenant_id, tiers[tenant_id])
        document_lock.lock(conn, [one.document_id for one in submissions])
        return [self._admit(conn, one) for one in submissions]

    def _admit(self, conn: Connection, submission: _Submission) -> str:
        request, version, document_id = submission.request, submission.version, submission.document_id
        now = self._clock.now()
        collection = self._collection(conn, request.user_id, submission.model)
        documents.ensure_document(
            conn,
            document_id=document_id,
            tenant_id=request.user_id,
            media_id=request.media_id,
            source=request.source,
            now=now,
        )
        building = jobs.unfinished_of_document(conn, document_id)
        for current in documents.generations_of(conn, document_id):
            if not version.same_outcome(current, collection):
                continue
            under_way = next((j for j in building if j.generation_id == current.generation_id), None)
            if under_way is not None:
                return under_way.job_id
            if current.state is GenerationState.LIVE:
                self._supersede(conn, building, now)
                return self._unchanged(conn, submission, current, now)
        self._check_quota(conn, request, version.chars, now)
        self._supersede(conn, building, now)
        usage.reserve(conn, request.user_id, version.chars, now)
        generation_id = documents.add_generation(
            conn,
            document_id,
            version,
            collection,
            submission.segments,
            chunker_version=PARTITION_VERSION,
        )
        job_id = _new_job_id()
        jobs.create(
            conn,
            job_id=job_id,
            tenant_id=request.user_id,
            document_id=document_id,
            generation_id=generation_id,
            user_tier=request.user_tier,
            priority=request.priority,
            now=now,
        )
        return job_id

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
        version = documents.Version(
            content_hash="",
            source_hash=source_hash,
            content_type=ContentType.TEXT,
            chars=0,
            chunking=self.default_chunking,
            batch_chunks=self._settings.chunking.batch_chunks,
        )
        document_id = identity.document_id(user_id, media_id)
        job_id = _new_job_id()

        def record(conn: Connection) -> str:
            document_lock.lock(conn, [document_id])
            now = self._clock.now()
            newest = next(iter(documents.generations_of(conn, document_id)), None)
            if newest is not None and newest.unreadable and newest.version.source_hash == source_hash:
                known = jobs.newest_of_generation(conn, newest.generation_id)
                if known is not None:
                    return known.job_id
            collection = self._collection(conn, user_id, info)
            documents.ensure_document(
                conn,
                document_id=document_id,
                tenant_id=user_id,
                media_id=media_id,
                source=source,
                now=now,
            )
            generation_id = documents.add_generation(
                conn, document_id, version, collection, [], chunker_version=PARTITION_VERSION
            )
            documents.abandon(conn, generation_id)
            jobs.create(
                conn,
                job_id=job_id,
                tenant_id=user_id,
                document_id=document_id,
                generation_id=generation_id,
                user_tier=user_tier,
                priority=50,
                now=now,
            )
            dead_letters.add(conn, job_id, [DeadLetter(Stage.CHUNKING, reason)], now)
            jobs.finish(conn, job_id, JobStatus.FAILED, reason=reason, now=now)
            return job_id

        return await self._database.write(record)

    def _unchanged(
        self, conn: Connection, submission: _Submission, current: documents.Generation, now: float
    ) -> str:
        request = submission.request
        maker = jobs.newest_of_generation(conn, current.generation_id)
        assert maker is not None, "a live version was made by a job"
        if submission.version.source_hash is not None:
            documents.set_source_hash(conn, current.generation_id, submission.version.source_hash)
        job_id = _new_job_id()
        jobs.create_unchanged(
            conn,
            job_id=job_id,
            like=maker,
            user_tier=request.user_tier,
            priority=request.priority,
            now=now,
        )
        return job_id

    def _supersede(self, conn: Connection, older: Sequence[Job], now: float) -> None:
        for job in older:
            jobs.finish(conn, job.job_id, JobStatus.CANCELLED, reason="superseded", now=now)
            documents.abandon(conn, job.generation_id)

    def _check_quota(self, conn: Connection, request: JobRequest, chars: int, now: float) -> None:
        tier = self._settings.tenants.tiers[request.user_tier.value]
        used = quota.Usage(
            active_jobs=jobs.count_unfinished(conn, request.user_id),
            chars_today=usage.chars_used(conn, request.user_id, now),
        )
        refusal = quota.refusal(request.user_tier.value, tier, used, chars)
        if refusal is not None:
            raise QuotaExceeded(f"tenant `{request.user_id}`, media `{request.media_id}`: {refusal}")

    @staticmethod
    def _collection(conn: Connection, tenant_id: str, model: ModelInfo) -> documents.Collection:
        return documents.ensure_collection(
            conn,
            name=collection_name(tenant_id, model.space),
            tenant_id=tenant_id,
            model=model.name,
            space=model.space,
            dim=model.dim,
        )

    @property
    def default_chunking(self) -> ChunkingConfig:
        """The chunking of jobs that bring none."""
        given = self._settings.chunking
        return ChunkingConfig.model_validate(given.model_dump(exclude={"batch_chunks"}))

    # --- look ---

    async def get_job_status(self, job_id: str, *, user_id: str | None = None) -> JobInfo:
        """Where the job is now. Raises UnknownJob."""
        return await self._database.read(
            lambda conn: _info(conn, _require(jobs.get(conn, job_id), job_id, user_id))
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
            found = jobs.page(conn, tenant_id=user_id, status=status, limit=limit, before=until)
            return _infos(conn, found)

        return await self._database.read(look)

    async def count_jobs(self) -> dict[JobStatus, int]:
        """How many jobs of all tenants are in each status."""
        return await self._database.read(jobs.count_by_status)

    async def get_job_statuses(self, job_ids: Sequence[str]) -> list[JobInfo]:
        """The jobs that exist of these, in no particular order; one read for all."""
        return await self._database.read(
            lambda conn: _infos(conn, list(jobs.get_many(conn, job_ids).values()))
        )

    async def wait(
        self, job_id: str, *, user_id: str | None = None, timeout_seconds: float | None = None
    ) -> JobInfo:
        """Return when the job has ended. Raises TimeoutError (the job goes on), UnknownJob."""
        async with asyncio.timeout(timeout_seconds):
            while True:
                seen = await self._database.version()
                info = await self.get_job_status(job_id, user_id=user_id)
                if info.status.terminal:
                    return info
                await self._database.wait_for_write(seen, timeout_seconds=1.0)

    async def events(self, *, user_id: str | None = None, after: int = 0, limit: int = 100) -> list[JobEvent]:
        """How jobs ended, in order, from beyond the position `after`; the last one's position gets the next
        page. Kept for `events.keep_days`. Positions are given by a running orchestrator: what ends while none
        runs is seen when one does."""
        return await self._database.read(lambda conn: events.after(conn, after, limit, tenant_id=user_id))

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
                same = made.version.source_hash == source_hash and made.version.chunking == chunking
                if same and made.collection.space == info.space and made.state is not GenerationState.RETIRED:
                    job = jobs.newest_of_generation(conn, made.generation_id)
                    return None if job is None else _info(conn, job)
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
            now = self._clock.now()
            if not jobs.finish(conn, job_id, JobStatus.CANCELLED, reason="cancelled", now=now):
                return False
            documents.abandon(conn, job.generation_id)
            chunks.mark_unreferenced(conn, job.document_id)
            documents.request_cleanup(conn, job.document_id)
            return True

        return await self._database.write(cancel)

    async def retry_job(self, job_id: str, *, user_id: str | None = None) -> None:
        """Run an ended job again; what it stored is kept, what failed is done anew.

        Raises InvalidRequest if it has not ended, has nothing left to do, or its document was deleted or
        submitted anew; UnknownJob.
        """
        await self._database.write(
            lambda conn: self._retry(conn, _require(jobs.lock(conn, job_id), job_id, user_id))
        )

    def _retry(self, conn: Connection, job: Job) -> None:
        job_id, now = job.job_id, self._clock.now()
        if not job.status.terminal:
            raise InvalidRequest(f"job {job_id} is still {job.status}: wait for it or cancel it first")
        if job.status is JobStatus.COMPLETED:
            raise InvalidRequest(f"job {job_id} is completed: there is nothing to retry")
        if documents.is_deleted(conn, job.document_id):
            raise InvalidRequest(f"job {job_id}: its document was deleted: submit it again if it is wanted")
        newest = documents.generations_of(conn, job.document_id)
        if not newest or newest[0].generation_id != job.generation_id:
            raise InvalidRequest(f"job {job_id}: a newer version of its document was submitted")
        if newest[0].unreadable:
            raise InvalidRequest(f"job {job_id}: its file could not be read: mend it and ingest it again")
        if newest[0].state is GenerationState.RETIRED:  # its vectors may be gone: look at each chunk anew
            jobs.restart_partition(conn, job_id, now)
            documents.set_state(conn, job.generation_id, GenerationState.BUILDING)
        jobs.reopen(conn, job_id, now)

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
                conn, tenant_id=user_id, job_id=job_id, stage=stage, ended=ended, limit=limit
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
        named = (
            dead_letters.get_many(conn, ids, tenant_id=user_id).values()
            if ids
            else dead_letters.page(conn, tenant_id=user_id, job_id=job_id, stage=None, ended=False, limit=1)
        )
        if all(letter.ended == DeadLetterEnd.REQUEUED for letter in named):
            raise InvalidRequest(f"job {job_id}: no dead letter is left to requeue")
        self._retry(conn, job)

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
                return dead_letters.purge(conn, [letter.dead_letter_id for letter in letters], now)
            if job_id is not None:
                _require(jobs.get(conn, job_id), job_id, user_id)
                return dead_letters.purge_job(conn, job_id, now)
            assert before is not None
            return dead_letters.purge_before(conn, before.timestamp(), now, tenant_id=user_id)

        return await self._database.write(purge)

    # --- delete ---

    async def delete_document(self, *, media_id: int | str, user_id: str) -> bool:
        """Hide the document at once and have everything of it deleted. False if there is none."""
        document_id = identity.document_id(user_id, str(media_id))

        def remove(conn: Connection) -> bool:
            document_lock.lock(conn, [document_id])
            if not documents.generations_of(conn, document_id) or documents.is_deleted(conn, document_id):
                return False
            now = self._clock.now()
            for job in jobs.unfinished_of_document(conn, document_id):
                jobs.finish(conn, job.job_id, JobStatus.CANCELLED, reason="document deleted", now=now)
            documents.mark_deleted(conn, document_id, now)
            chunks.mark_unreferenced(conn, document_id)
            return True

        return await self._database.write(remove)


class _Submission:
    """A request with everything prepared that needs no transaction."""

    __slots__ = ("model", "request", "segments", "version")

    def __init__(
        self,
        request: JobRequest,
        model: ModelInfo,
        version: documents.Version,
        segments: list[documents.Segment],
    ) -> None:
        self.request = request
        self.model = model
        self.version = version
        self.segments = segments

    @property
    def document_id(self) -> str:
        return identity.document_id(self.request.user_id, self.request.media_id)


def open_database(settings: Settings, metrics: Metrics | None = None) -> Database:
    """The database of these settings, not yet opened; its directory is created."""
    if settings.database.url is None:
        create_data_dir(settings.data_dir)
    return Database(
        settings.database_url,
        synchronous=settings.database.synchronous,
        busy_timeout_seconds=settings.database.busy_timeout_seconds,
        pool_size=settings.database.pool_size,
        connect_timeout_seconds=settings.database.connect_timeout_seconds,
        seconds=None if metrics is None else metrics.sql_seconds,
    )


def request_from(**fields: Any) -> JobRequest:
    """A JobRequest, or InvalidRequest naming the first wrong field in one line."""
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as exc:
        problem = exc.errors()[0]
        name = ".".join(str(part) for part in problem["loc"]) or "request"
        message = problem["msg"].removeprefix("Value error, ")
        given = problem.get("input")
        shown = f" (got {given!r})" if isinstance(given, int | float | bool) or name != "content" else ""
        raise InvalidRequest(f"{name}: {message}{shown}") from exc


def _new_job_id() -> str:
    return f"job_{uuid.uuid4().hex}"


def _require(job: Job | None, job_id: str, user_id: str | None) -> Job:
    if job is None or (user_id is not None and job.tenant_id != user_id):
        raise UnknownJob(f"no job `{job_id}`: `embedfleet jobs list` shows those there are")
    return job


def _letters(conn: Connection, ids: Sequence[int], user_id: str | None) -> list[DeadLetterInfo]:
    """The letters in the order asked for. Raises UnknownDeadLetter."""
    found = dead_letters.get_many(conn, ids, tenant_id=user_id)
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


def _info(conn: Connection, job: Job) -> JobInfo:
    return _infos(conn, [job])[0]


def _infos(conn: Connection, found: Sequence[Job]) -> list[JobInfo]:
    """One query for the versions of all jobs; dead letters only of those that have some."""
    made = documents.generations_by_id(conn, [job.generation_id for job in found])
    return [
        _describe(
            job,
            made.get(job.generation_id),
            dead_letters.of_job(conn, job.job_id) if job.chunks_dead else [],
        )
        for job in found
    ]


def _describe(job: Job, made: documents.Generation | None, letters: Sequence[DeadLetter]) -> JobInfo:
    return JobInfo(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        media_id=made.media_id if made else "",
        source=made.source if made else None,
        status=job.status,
        reason=job.reason,
        priority=job.priority,
        user_tier=job.user_tier,
        model=made.collection.model if made else "",
        generation=made.number if made else 0,
        chars=made.version.chars if made else 0,
        progress=JobProgress(
            chunks_total=job.chunks_total,
            chunks_embedded=job.chunks_embedded,
            chunks_stored=job.chunks_stored,
            chunks_reused=job.chunks_reused,
            chunks_dead=job.chunks_dead,
            sealed=job.sealed,
        ),
        coverage=job.coverage,
        missing=tuple(
            CharRange(start=letter.start, end=letter.end)
            for letter in letters
            if letter.start is not None and letter.end is not None
        ),
        created_at=_when(job.created_at),
        started_at=None if job.started_at is None else _when(job.started_at),
        finished_at=None if job.finished_at is None else _when(job.finished_at),
    )


def _when(instant: float) -> datetime:
    return datetime.fromtimestamp(instant, UTC)
