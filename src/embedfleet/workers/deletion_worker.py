"""Deletion: what is left over when a document has a new version, lost a job, or is deleted.

Everything it does is found in SQL, so it may be repeated or interrupted anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import DeletionTask, Stage
from embedfleet.records import chunks, documents, embedding_cache, jobs, segments
from embedfleet.records.chunks import MarkedVector
from embedfleet.records.documents import Generation
from embedfleet.records.metadata import chunk_metadata
from embedfleet.sql import document_lock
from embedfleet.sql.tables import GenerationState
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.base_worker import Done, Failures, StageLoop
from embedfleet.workers.services import Services

_ROWS_PER_STEP = 1000


class DeletionLoop(StageLoop):
    """Carries out `DeletionTask`s."""

    stage = Stage.DELETION

    def __init__(self, name: str, services: Services, *, store: VectorStore) -> None:
        super().__init__(name, services)
        self._store = store

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        failures: dict[str, Exception] = {}
        for lease in leases:
            try:
                await self._clean(DeletionTask.decode(lease.task.payload).document_id)
            except Exception as exc:  # noqa: BLE001 - one document's trouble is not the others'
                failures[lease.task.id] = exc
        return failures

    async def give_up(self, lease: Lease, reason: str) -> None:
        """Nothing to record: the request stays in SQL and is offered again at the next start."""

    async def _clean(self, document_id: str) -> None:
        requests = await self._database.read(lambda conn: documents.cleanup_requests(conn, document_id))
        await self._delete_marked(document_id)
        generation = await self._database.read(lambda conn: _live(conn, document_id))
        if generation is not None:
            await self._describe_reused(generation)
        await self._database.write(lambda conn: _purge(conn, document_id, requests))

    async def _delete_marked(self, document_id: str) -> None:
        marked = await self._database.read(lambda conn: chunks.vectors_to_delete(conn, document_id))
        by_collection: dict[str, list[MarkedVector]] = {}
        for vector in marked:
            by_collection.setdefault(vector.collection, []).append(vector)
        for collection, gone in by_collection.items():
            await self._store.delete(collection, [vector.chunk_id for vector in gone])
        # Only now: a crash in between finds them marked and deletes them again.
        await self._database.write(lambda conn: _forget(conn, document_id, marked))

    async def _describe_reused(self, generation: Generation) -> None:
        """Rows the new version took over still name the old job, index and heading."""
        while True:
            rows, job_id = await self._database.read(lambda conn: _undescribed(conn, generation))
            if not rows:
                return
            ids = [row.chunk_id for row in rows]
            metadatas = [chunk_metadata(generation, job_id, row) for row in rows]
            await self._store.update_metadata(generation.collection.name, ids, metadatas)
            await self._database.write(partial(_describe, generation=generation, chunk_ids=ids))


def _forget(conn: Connection, document_id: str, gone: Sequence[MarkedVector]) -> None:
    document_lock.lock(conn, [document_id])
    if gone:
        chunks.record_deleted(conn, document_id, gone)
        documents.count_deletion(conn, document_id)


def _describe(conn: Connection, generation: Generation, chunk_ids: Sequence[str]) -> None:
    document_lock.lock(conn, [generation.document_id])
    chunks.record_description(conn, generation.document_id, generation.generation_id, chunk_ids)


def _live(conn: Connection, document_id: str) -> Generation | None:
    generations = documents.generations_of(conn, document_id)
    return next((generation for generation in generations if generation.state is GenerationState.LIVE), None)


def _undescribed(conn: Connection, generation: Generation) -> tuple[list[chunks.ChunkRow], str]:
    job = jobs.newest_of_generation(conn, generation.generation_id)
    rows = chunks.described_by_others(conn, generation.generation_id, _ROWS_PER_STEP)
    return rows, "" if job is None else job.job_id


def _purge(conn: Connection, document_id: str, requests: int) -> None:
    """Drop rows nobody needs: a deleted document whole, otherwise the versions before the live one."""
    document_lock.lock(conn, [document_id])
    if chunks.vectors_to_delete(conn, document_id):
        return  # marked meanwhile: the request counter has moved too, and brings the next task
    generations = documents.generations_of(conn, document_id)
    if documents.is_deleted(conn, document_id):
        chunks.drop(conn, [generation.generation_id for generation in generations])
        jobs.drop_of_document(conn, document_id)
        embedding_cache.drop_of_document(conn, document_id)
        documents.drop(conn, document_id)
        return
    live = next((v.number for v in generations if v.state is GenerationState.LIVE), 0)
    old = [v.generation_id for v in generations if v.state is GenerationState.RETIRED and v.number < live]
    chunks.drop(conn, old)
    jobs.drop_batches(conn, old)
    segments.drop(conn, old)
    documents.finish_cleanup(conn, document_id, requests)
