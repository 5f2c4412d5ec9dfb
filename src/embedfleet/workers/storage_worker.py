"""Storage: vectors to the vector store, then one SQL transaction, then the ack.

The vector store is written first: a crash in between leaves rows that the redelivered task finds and
completes. What a finished or deleted job wrote late is marked for deletion in that same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from embedfleet.errors import Transient
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import JobStatus, Stage, StorageTask
from embedfleet.settings import VectorStoreSettings
from embedfleet.storage import chunks, documents, jobs
from embedfleet.storage.chunks import ChunkRow
from embedfleet.storage.documents import Generation, Segment
from embedfleet.storage.jobs import Batch, DeadLetter
from embedfleet.storage.tables import BatchState
from embedfleet.storage.vector_store import VectorRows, VectorStore
from embedfleet.workers.base_worker import Failures, Worker, decoded
from embedfleet.workers.completion import give_up_batch, publish_if_done
from embedfleet.workers.metadata import chunk_metadata
from embedfleet.workers.services import Services


class MarkedForDeletion(Transient):
    """An id of the batch is just being deleted: the batch waits until that is done."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed task with all that SQL knows about it. `rows`: the chunks of its batch, in order."""

    lease: Lease
    message: StorageTask
    version: Generation
    batch: Batch
    rows: Sequence[ChunkRow]
    segments: Sequence[Segment]

    def row_of(self) -> Mapping[str, ChunkRow]:
        return {row.chunk_id: row for row in self.rows}


class StorageWorker(Worker):
    """Writes `StorageTask`s to the vector store and SQL, and completes jobs."""

    stage = Stage.STORAGE

    def __init__(
        self, name: str, services: Services, *, store: VectorStore, settings: VectorStoreSettings
    ) -> None:
        super().__init__(name, services)
        self._store = store
        self._settings = settings

    async def process(self, leases: Sequence[Lease]) -> Failures:
        messages, failures = decoded(leases, StorageTask)
        found = await self._database.read(lambda conn: list(self._look_up(conn, messages)))
        by_collection: dict[str, list[_Work]] = {}
        for item in found:
            if isinstance(item, _Work):
                by_collection.setdefault(item.version.collection.name, []).append(item)
            else:
                lease, failure = item
                failures[lease.task.id] = failure
        for name, work in by_collection.items():
            await self._store_batches(name, work)
        return failures

    async def give_up(self, lease: Lease, reason: str) -> None:
        status = await give_up_batch(self._database, lease, reason, self._clock.now())
        self.count_ended(status, lease.task.tenant_id)

    def _look_up(
        self, conn: Connection, messages: Iterable[tuple[Lease, StorageTask]]
    ) -> Iterable[_Work | tuple[Lease, Exception]]:
        """What is to be stored; tasks of finished jobs and finished batches are left out."""
        for lease, message in messages:
            job = jobs.get(conn, message.job_id)
            if job is None or job.status.terminal:
                continue
            batch = jobs.batches_of(conn, message.job_id, [message.ordinal]).get(message.ordinal)
            version = documents.generation(conn, job.generation_id)
            if batch is None or batch.state is BatchState.DONE or version is None:
                continue
            if chunks.deleting(conn, message.chunk_id_list()):
                yield lease, MarkedForDeletion(f"batch {lease.task.id}: an older version's rows go first")
                continue
            rows = chunks.between(conn, version.generation_id, batch.first_chunk, batch.chunks)
            texts: list[Segment] = []
            if self._settings.store_documents and message.chunk_ids:
                span = rows[0].start, max(row.end for row in rows)
                texts = documents.segments_between(conn, version.generation_id, *span)
            yield _Work(lease, message, version, batch, rows, texts)

    async def _store_batches(self, collection: str, work: Sequence[_Work]) -> None:
        first = work[0].version.collection
        await self._store.ensure_collection(collection, space=first.space, dim=first.dim)
        rows = await self._missing_only(collection, work)
        if rows.ids:
            await self._store.upsert(collection, rows)
        self._metrics.batch_chunks.labels(self.stage.value).observe(len(rows.ids))
        now = self._clock.now()
        finished, orphans = await self._database.write(lambda conn: _record(conn, work, now))
        for status in finished:
            self.count_ended(status, first.tenant_id)
        if orphans:  # their document was deleted to its last row meanwhile
            await self._store.delete(collection, orphans)

    async def _missing_only(self, collection: str, work: Sequence[_Work]) -> VectorRows:
        """The rows to write. On a redelivery those already there are left alone: rewriting an existing id
        while being killed is what corrupts Chroma's index (chroma #7678)."""
        again = [cid for item in work if item.lease.attempt > 1 for cid in item.message.chunk_id_list()]
        there = await self._store.existing(collection, again) if again else set()
        return _vector_rows(work, there, with_documents=self._settings.store_documents)


def _vector_rows(work: Sequence[_Work], there: set[str], *, with_documents: bool) -> VectorRows:
    ids: list[str] = []
    metadatas = []
    texts: list[str] = []
    vectors = []
    for item in work:
        row_of = item.row_of()
        mine = item.message.chunk_id_list()
        keep = [i for i, chunk_id in enumerate(mine) if chunk_id not in there]
        rows = [row_of[mine[i]] for i in keep]
        ids += [mine[i] for i in keep]
        metadatas += [chunk_metadata(item.version, item.message.job_id, row) for row in rows]
        vectors.append(item.message.vectors_array()[keep])
        if with_documents:
            texts += documents.slice_text(item.segments, [(row.start, row.end) for row in rows])
    return VectorRows(
        ids=ids,
        vectors=np.concatenate(vectors),
        metadatas=metadatas,
        documents=texts if with_documents else None,
    )


def _record(conn: Connection, work: Sequence[_Work], now: float) -> tuple[list[JobStatus], list[str]]:
    """Count the batches and finish the jobs that are done; returns their statuses, and the ids that were
    written for documents which no longer exist."""
    finished: list[JobStatus] = []
    orphans: list[str] = []
    for item in work:
        ids = item.message.chunk_id_list()
        version, job_id = item.version, item.message.job_id
        job = jobs.get(conn, job_id)
        if job is None and documents.generation(conn, version.generation_id) is None:
            orphans += ids
            continue
        chunks.record_stored(
            conn,
            document_id=version.document_id,
            collection_id=version.collection.collection_id,
            generation_id=version.generation_id,
            chunk_ids=ids,
        )
        if job is None or job.status.terminal:
            chunks.mark_unreferenced(conn, version.document_id)
            documents.request_cleanup(conn, version.document_id)
            continue
        dead = [_dead_letter(item, dead.position, dead.reason) for dead in item.message.dead]
        reused = len(item.rows) - len(ids) - len(dead)
        if jobs.stored(conn, job_id, item.message.ordinal, reused=reused, dead=dead, now=now):
            status = publish_if_done(conn, job_id, now)
            if status is not None:
                finished.append(status)
    return finished, orphans


def _dead_letter(item: _Work, position: int, reason: str) -> DeadLetter:
    row = item.rows[position]
    return DeadLetter(Stage.EMBEDDING, reason, item.batch.ordinal, row.chunk_index, row.start, row.end)
