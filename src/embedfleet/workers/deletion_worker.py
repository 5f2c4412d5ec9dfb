"""The deletion worker removes the leftovers of a document.

A document has leftovers when a new generation replaces an old one, when a job ends without success, and when
the document is deleted. Everything that the worker needs is in SQL (`lifecycle.cleanup`). So a task may be
repeated, and interrupted between any two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from embedfleet.errors import StoreMoved
from embedfleet.lifecycle import cleanup
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import DeletionTask, Stage
from embedfleet.records import chunks, document_cleanup
from embedfleet.records.chunks import MarkedVector
from embedfleet.records.collections import Collection
from embedfleet.records.metadata import chunk_metadata
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.base_worker import Done, Failures, StageLoop, one_by_one
from embedfleet.workers.services import Services


class DeletionLoop(StageLoop):
    """Carries out `DeletionTask`s."""

    stage = Stage.DELETION

    def __init__(self, name: str, services: Services, *, store: VectorStore) -> None:
        super().__init__(name, services)
        self._store = store

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        return await one_by_one(leases, self._clean)

    async def give_up(self, lease: Lease, reason: str) -> None:
        """Record nothing: the request stays in SQL, and the leader offers it again."""

    async def _clean(self, lease: Lease) -> None:
        document_id = DeletionTask.decode(lease.task.payload).document_id
        # Read this before the work: a cleanup that is requested from now on needs another task.
        requests = await self._database.read(
            lambda conn: document_cleanup.cleanup_requests(conn, document_id)
        )
        try:
            await self._delete_marked(document_id)
            await self._describe_reused(document_id)
        except StoreMoved:
            await self._store.follow()
            raise
        now = self._clock.now()
        await self._database.write(lambda conn: cleanup.drop_unneeded_rows(conn, document_id, requests, now))

    async def _delete_marked(self, document_id: str) -> None:
        marked = await self._database.read(lambda conn: chunks.vectors_to_delete(conn, document_id))
        part_id = self._store.part_id
        by_collection: dict[Collection, list[MarkedVector]] = {}
        for vector in marked:
            by_collection.setdefault(vector.collection, []).append(vector)
        for collection, gone in by_collection.items():
            await self._store.delete(collection, [vector.chunk_id for vector in gone])
        # SQL comes after the vector store: after a crash in between, the marks bring a second delete.
        await self._database.write(
            partial(cleanup.record_deleted, document_id=document_id, gone=marked, part_id=part_id)
        )

    async def _describe_reused(self, document_id: str) -> None:
        """Give the rows that the live generation took over its own job, index and heading."""
        look = partial(cleanup.next_undescribed, document_id=document_id)
        while (found := await self._database.read(look)) is not None:
            part_id = self._store.part_id
            ids = [row.chunk_id for row in found.rows]
            metadatas = [chunk_metadata(found.generation, found.job_id, row) for row in found.rows]
            await self._store.update_metadata(found.generation.collection, ids, metadatas)
            await self._database.write(partial(cleanup.record_description, described=found, part_id=part_id))
