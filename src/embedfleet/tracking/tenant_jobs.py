"""The jobs and documents of one tenant."""

from __future__ import annotations

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.lifecycle import ending
from embedfleet.lifecycle.admission import Admission, UnreadableSource
from embedfleet.queue_schemas import ChunkingConfig, JobInfo, UserTier
from embedfleet.records import documents, identity, jobs
from embedfleet.records.job_info import job_info
from embedfleet.records.scope import OneTenant
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.tables import GenerationState
from embedfleet.tracking.scoped_jobs import ScopedJobs


class TenantJobs(ScopedJobs):
    """The jobs and documents of one tenant. No id gives access to the rows of another tenant."""

    def __init__(self, database: Database, clock: Clock, admission: Admission, tenant: str) -> None:
        super().__init__(database, clock, OneTenant(tenant))
        self._admission = admission
        self._tenant = tenant

    async def find_job(
        self,
        *,
        media_id: str,
        source_hash: str,
        chunking_config: ChunkingConfig | None = None,
        model: str | None = None,
    ) -> JobInfo | None:
        """Find the job that made, or is making, a document from the same source, chunking and model.

        With it a caller can skip reading a file again. Returns None if the document is new, changed or
        deleted. Raises UnknownModel.
        """
        space = self._admission.model_info(model).space
        chunking = chunking_config or self._admission.default_chunking
        document_id = identity.document_id(self._tenant, media_id)

        def look(conn: Connection) -> JobInfo | None:
            if documents.is_deleted(conn, document_id):
                return None
            for made in documents.generations_of(conn, document_id):
                same_input = made.recipe.source_hash == source_hash and made.recipe.chunking == chunking
                is_kept = made.state is not GenerationState.RETIRED
                if same_input and made.collection.space == space and is_kept:
                    job = jobs.newest_of_generation(conn, made.generation_id)
                    return None if job is None else job_info(conn, job)
            return None

        return await self._database.read(look)

    async def list_sources(self, *, prefix: str = "") -> dict[str, str]:
        """Return, by source, the media ids of live documents whose source starts with `prefix`."""
        found = await self._database.read(lambda conn: documents.live_by_source(conn, self._tenant, prefix))
        return {document.source: document.media_id for document in found if document.source is not None}

    async def record_unreadable(
        self,
        *,
        media_id: str,
        reason: str,
        user_tier: UserTier = UserTier.FREE,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
    ) -> str:
        """Record that a document could not be turned into text, as a failed job with a dead letter.

        Returns the id of the job. A second call for the same bytes returns the same id. Readers keep the
        generation they see. Raises UnknownModel, StorageFull, DatabaseUnavailable.
        """
        info = self._admission.model_info(model)
        what = UnreadableSource(self._tenant, media_id, user_tier, reason, info, source, source_hash)
        return await self._database.write(lambda conn: self._admission.note_unreadable(conn, what))

    async def delete_document(self, *, media_id: int | str) -> bool:
        """Hide the document at once and request its deletion. Return False if there is no such document."""
        document_id = identity.document_id(self._tenant, str(media_id))

        def remove(conn: Connection) -> bool:
            document_lock.lock(conn, [document_id])
            return ending.delete_document(conn, document_id, self._clock.now())

        return await self._database.write(remove)
