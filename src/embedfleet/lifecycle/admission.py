"""Admission decides whether a submitted document is accepted, and writes it to SQL.

`prepare` does the work that needs no transaction: it cuts, hashes and compresses the text. `admit` is one
transaction. It looks for an equal generation that is live or under way, checks the quota, supersedes older
unfinished generations, and writes the document, its generation and its job.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from embedfleet import quota
from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.chunking.segments import segment_spans
from embedfleet.clock import Clock
from embedfleet.errors import InvalidRequest, QuotaExceeded
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending
from embedfleet.queue_schemas import ChunkingConfig, ContentType, JobRequest, JobStatus, Stage, UserTier
from embedfleet.records import collections, dead_letters, documents, identity, jobs, usage
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.records.segments import Segment
from embedfleet.settings import Settings
from embedfleet.sql import document_lock
from embedfleet.sql.tables import GenerationState
from embedfleet.validation import first_problem

_USUAL_PRIORITY = 50


@dataclass(frozen=True, slots=True)
class Submission:
    """A request, and everything about it that was prepared outside a transaction."""

    request: JobRequest
    model: ModelInfo
    recipe: documents.Recipe
    segments: Sequence[Segment]

    @property
    def document_id(self) -> str:
        return identity.document_id(self.request.user_id, self.request.media_id)


@dataclass(frozen=True, slots=True)
class UnreadableSource:
    """A generation whose text could not be read. `source_hash` is the hash of its source's bytes."""

    tenant: str
    media_id: str
    user_tier: UserTier
    reason: str
    model: ModelInfo
    source: str | None
    source_hash: str | None

    @property
    def document_id(self) -> str:
        return identity.document_id(self.tenant, self.media_id)


class _Unit:
    """The collections and usages that one transaction of admissions has read so far, and its own counts.

    It reads each tenant's usage once. `usage.set_tier` has locked the tenant's row, so no other transaction
    admits a document of the tenant before this one ends.
    """

    def __init__(self, conn: Connection, now: float) -> None:
        self.conn = conn
        self.now = now
        self._collections: dict[tuple[str, str], collections.Collection] = {}
        self._used: dict[str, quota.Usage] = {}
        self._admitted: dict[str, list[int]] = {}

    def collection(self, tenant: str, model: ModelInfo) -> collections.Collection:
        key = (tenant, model.space)
        if key not in self._collections:
            self._collections[key] = collections.ensure(
                self.conn, tenant=tenant, model=model.name, space=model.space, dim=model.dim
            )
        return self._collections[key]

    def used(self, tenant: str) -> quota.Usage:
        """Return the tenant's usage, with the documents that this transaction has admitted."""
        if tenant not in self._used:
            self._used[tenant] = quota.Usage(
                active_jobs=jobs.count_unfinished(self.conn, tenant),
                chars_today=usage.chars_used(self.conn, tenant, self.now),
            )
        return self._used[tenant]

    def count(self, tenant: str, chars: int) -> None:
        """Count one admitted document of `chars` characters."""
        before = self.used(tenant)
        self._used[tenant] = quota.Usage(before.active_jobs + 1, before.chars_today + chars)
        self._admitted.setdefault(tenant, []).append(chars)

    def uncount(self, tenant: str, superseded: int) -> None:
        """Subtract superseded jobs from the usage. A usage that is read later does not include ended jobs."""
        if tenant in self._used:
            before = self._used[tenant]
            self._used[tenant] = quota.Usage(before.active_jobs - superseded, before.chars_today)

    def reserve(self) -> None:
        """Write the usage of all counted documents to SQL."""
        for tenant, chars in sorted(self._admitted.items()):
            usage.reserve(self.conn, tenant, sum(chars), self.now, jobs=len(chars))


class Admission:
    """Admits documents. It needs SQL only, through the connections that its callers pass."""

    def __init__(self, settings: Settings, catalogue: Catalogue, clock: Clock) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock

    @property
    def default_chunking(self) -> ChunkingConfig:
        """The chunking configuration of jobs that name none."""
        return self._settings.chunking.config

    def model_info(self, name: str | None) -> ModelInfo:
        """Return the model of this name, or the default model for None. Raises UnknownModel."""
        return self._catalogue.info(name or self._settings.models.default)

    def prepare(self, request: JobRequest) -> Submission:
        """Do the work that needs no transaction: cut, hash and compress the text. Raises UnknownModel."""
        model = self.model_info(request.model)
        digest = identity.ContentHash()
        segments: list[Segment] = []
        for ordinal, (start, end) in enumerate(segment_spans(request.content)):
            text = request.content[start:end]
            digest.update(text)
            segments.append(Segment.of(ordinal, start, text))
        recipe = documents.Recipe(
            content_hash=digest.hexdigest(),
            source_hash=request.source_hash,
            content_type=request.content_type,
            chars=len(request.content),
            chunking=request.chunking_config or self.default_chunking,
            batch_chunks=self._settings.chunking.batch_chunks,
        )
        return Submission(request, model, recipe, segments)

    def admit(self, conn: Connection, submissions: Sequence[Submission]) -> list[str]:
        """Admit all submissions and return the ids of their jobs, in order. On QuotaExceeded admit none."""
        tiers = {one.request.user_id: one.request.user_tier for one in submissions}
        for tenant in sorted(tiers):
            # Tenants are locked in order, and before documents: see `document_lock`.
            usage.set_tier(conn, tenant, tiers[tenant])
        document_lock.lock(conn, [one.document_id for one in submissions])
        unit = _Unit(conn, self._clock.now())
        job_ids = [self._admit_one(unit, one) for one in submissions]
        unit.reserve()
        return job_ids

    def _admit_one(self, unit: _Unit, submission: Submission) -> str:
        request, recipe, document_id = submission.request, submission.recipe, submission.document_id
        # Each job gets its own instant: jobs are offered, and listed in pages, in the order of creation.
        conn, now = unit.conn, self._clock.now()
        collection = unit.collection(request.user_id, submission.model)
        documents.ensure_document(
            conn,
            document_id=document_id,
            tenant=request.user_id,
            media_id=request.media_id,
            source=request.source,
            now=now,
        )
        building = jobs.unfinished_of_document(conn, document_id)
        for current in documents.generations_of(conn, document_id):
            if not recipe.same_outcome(current, collection):
                continue
            under_way = next((j for j in building if j.generation_id == current.generation_id), None)
            if under_way is not None:
                return under_way.job_id
            if current.state is GenerationState.LIVE:
                if building:
                    self._supersede(unit, request.user_id, building, now)
                    # The superseded job may have stored vectors. The end of a newer job usually requests
                    # their cleanup, but here there is no newer job.
                    ending.leave_rest_to_cleanup(conn, [document_id])
                return self._unchanged(conn, submission, current, now)
        return self._begin(unit, submission, collection, building, now)

    def _begin(
        self,
        unit: _Unit,
        submission: Submission,
        collection: collections.Collection,
        building: Sequence[Job],
        now: float,
    ) -> str:
        """Write a new generation of the document and its job, superseding the jobs in `building`."""
        conn, request, recipe = unit.conn, submission.request, submission.recipe
        self._check_quota(unit, request, recipe.chars)
        self._supersede(unit, request.user_id, building, now)
        unit.count(request.user_id, recipe.chars)
        generation_id = documents.add_generation(
            conn,
            submission.document_id,
            recipe,
            collection,
            submission.segments,
            chunker_version=PARTITION_VERSION,
        )
        job_id = _new_job_id()
        jobs.create(
            conn,
            job_id=job_id,
            tenant=request.user_id,
            document_id=submission.document_id,
            generation_id=generation_id,
            user_tier=request.user_tier,
            priority=request.priority,
            now=now,
        )
        return job_id

    def _unchanged(
        self, conn: Connection, submission: Submission, current: documents.Generation, now: float
    ) -> str:
        request = submission.request
        # A live version was made by a job.
        maker = jobs.newest_of_generations(conn, [current.generation_id])[current.generation_id]
        if submission.recipe.source_hash is not None:
            documents.set_source_hash(conn, current.generation_id, submission.recipe.source_hash)
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

    def _supersede(self, unit: _Unit, tenant: str, older: Sequence[Job], now: float) -> None:
        ending.supersede(unit.conn, older, now)
        unit.uncount(tenant, len(older))

    def _check_quota(self, unit: _Unit, request: JobRequest, chars: int) -> None:
        tier = self._settings.tenants.tiers[request.user_tier.value]
        used = unit.used(request.user_id)
        refusal = quota.refusal(request.user_tier.value, tier, used, chars)
        if refusal is not None:
            raise QuotaExceeded(f"tenant `{request.user_id}`, media `{request.media_id}`: {refusal}")

    def note_unreadable(self, conn: Connection, what: UnreadableSource) -> str:
        """Write a failed job with a dead letter, and return its id.

        If the document's newest generation is of the same bytes, return the id of its job and write nothing.
        """
        document_lock.lock(conn, [what.document_id])
        now = self._clock.now()
        newest = next(iter(documents.generations_of(conn, what.document_id)), None)
        if newest is not None and newest.unreadable and newest.recipe.source_hash == what.source_hash:
            known = jobs.newest_of_generations(conn, [newest.generation_id]).get(newest.generation_id)
            if known is not None:
                return known.job_id
        job_id = self._create_unreadable(conn, what, now)
        dead_letters.add(conn, {job_id: [DeadLetter(Stage.CHUNKING, what.reason)]}, now)
        jobs.finish(conn, job_id, JobStatus.FAILED, reason=what.reason, now=now)
        return job_id

    def _create_unreadable(self, conn: Connection, what: UnreadableSource, now: float) -> str:
        recipe = documents.Recipe(
            content_hash="",
            source_hash=what.source_hash,
            content_type=ContentType.TEXT,
            chars=0,
            chunking=self.default_chunking,
            batch_chunks=self._settings.chunking.batch_chunks,
        )
        collection = _Unit(conn, now).collection(what.tenant, what.model)
        documents.ensure_document(
            conn,
            document_id=what.document_id,
            tenant=what.tenant,
            media_id=what.media_id,
            source=what.source,
            now=now,
        )
        generation_id = documents.add_generation(
            conn, what.document_id, recipe, collection, [], chunker_version=PARTITION_VERSION
        )
        documents.abandon(conn, [generation_id])
        job_id = _new_job_id()
        jobs.create(
            conn,
            job_id=job_id,
            tenant=what.tenant,
            document_id=what.document_id,
            generation_id=generation_id,
            user_tier=what.user_tier,
            priority=_USUAL_PRIORITY,
            now=now,
        )
        return job_id


def request_from(**fields: Any) -> JobRequest:
    """Build a JobRequest. Raises InvalidRequest, which names the first wrong field in one line."""
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as exc:
        problem = first_problem(exc)
        # The content is not shown: it is private, and may be long.
        is_short = isinstance(problem.given, int | float | bool) or problem.field != "content"
        shown = f" (got {problem.given!r})" if is_short else ""
        raise InvalidRequest(f"{problem.field or 'request'}: {problem.message}{shown}") from exc


def _new_job_id() -> str:
    return f"job_{uuid.uuid4().hex}"
