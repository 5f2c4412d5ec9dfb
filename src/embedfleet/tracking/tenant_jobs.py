"""The jobs and documents of one tenant."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.lifecycle import ending
from embedfleet.lifecycle.admission import Admission, UnreadableSource
from embedfleet.queue_schemas import ChunkingConfig, JobInfo
from embedfleet.records import documents, identity, jobs
from embedfleet.records.job_info import job_infos
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
        found = await self.find_jobs([(media_id, source_hash)], chunking_config=chunking_config, model=model)
        return found[0]

    async def find_jobs(
        self,
        sources: Sequence[tuple[str, str]],
        *,
        chunking_config: ChunkingConfig | None = None,
        model: str | None = None,
    ) -> list[JobInfo | None]:
        """Find the jobs of many documents in one read, as `find_job` does for one.

        `sources` are pairs of a media id and the hash of its source. The result has one entry for each pair,
        in order. Raises UnknownModel.
        """
        space = self._admission.model_info(model).space
        chunking = chunking_config or self._admission.default_chunking
        wanted = [(identity.document_id(self._tenant, media_id), digest) for media_id, digest in sources]

        def is_same(made: documents.Generation, digest: str) -> bool:
            same_input = made.recipe.source_hash == digest and made.recipe.chunking == chunking
            is_kept = made.state is not GenerationState.RETIRED
            return same_input and made.collection.space == space and is_kept

        def look(conn: Connection) -> list[JobInfo | None]:
            document_ids = list({document_id for document_id, _ in wanted})
            deleted = documents.deleted_among(conn, document_ids)
            made = documents.generations_of_many(conn, [one for one in document_ids if one not in deleted])
            # The newest generation from the same input, or None, for each pair.
            chosen = [
                next((one for one in made.get(document_id, []) if is_same(one, digest)), None)
                for document_id, digest in wanted
            ]
            ids = list({one.generation_id for one in chosen if one is not None})
            newest = jobs.newest_of_generations(conn, ids)
            infos = dict(zip(newest, job_infos(conn, list(newest.values())), strict=True))
            return [None if one is None else infos.get(one.generation_id) for one in chosen]

        return await self._database.read(look)

    async def models_of(self, media_ids: Sequence[str]) -> dict[str, str]:
        """Return, by media id, the model of the version that readers see or that is being made.

        A document without such a version is left out. The model may not be configured any more.
        """
        by_document = {identity.document_id(self._tenant, one): one for one in media_ids}
        models = await self._database.read(lambda conn: documents.models_of(conn, list(by_document)))
        return {by_document[name]: model for name, model in models.items()}

    async def record_unreadable(
        self,
        *,
        media_id: str,
        reason: str,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
    ) -> str:
        """Record that a document could not be turned into text, as a failed job with a dead letter.

        Returns the id of the job. A second call for the same bytes returns the same id. Readers keep the
        generation they see. Raises UnknownModel, StorageFull, DatabaseUnavailable.
        """
        info = self._admission.model_info(model)
        what = UnreadableSource(self._tenant, media_id, reason, info, source, source_hash)
        return await self._database.write(lambda conn: self._admission.note_unreadable(conn, what))

    async def delete_document(self, *, media_id: int | str) -> bool:
        """Hide the document at once and request its deletion. Return False if there is no such document."""
        document_id = identity.document_id(self._tenant, str(media_id))

        def remove(conn: Connection) -> bool:
            document_lock.lock(conn, [document_id])
            return ending.delete_document(conn, document_id, self._clock.now())

        return await self._database.write(remove)
