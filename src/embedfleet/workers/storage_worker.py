"""Storage: vectors to the vector store, then one SQL transaction, then the ack.

The vector store is written first, and what it holds then is read back for its checksum: a crash in between
leaves rows that the redelivered task finds and completes. What was written for a run of a job that is over by
then is left to deletion, in that same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from sqlalchemy import Connection

from embedfleet.errors import Permanent, SpaceMismatch, Transient
from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.completion import give_up_batch, publish_if_done, settle_batch
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Stage, StorageTask
from embedfleet.records import chunks, dead_letters, documents, jobs, segments
from embedfleet.records.batches import Batch, batches_among
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.documents import Generation
from embedfleet.records.jobs import Job
from embedfleet.records.metadata import chunk_metadata
from embedfleet.records.segments import Segment
from embedfleet.settings import VectorStoreSettings
from embedfleet.sql import document_lock
from embedfleet.sql.tables import BatchState
from embedfleet.vectors.checksums import checksums_of, same_direction
from embedfleet.vectors.port import VectorRows, VectorStore
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded
from embedfleet.workers.services import Services


class MarkedForDeletion(Transient):
    """An id of the batch is just being deleted: the batch waits until that is done."""


class _Vectors(TypedDict):
    document_id: str
    collection_id: int
    generation_id: int
    chunk_ids: list[str]
    checksums: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Written:
    """`checksums`: of the vectors that the store now holds, by id. `refused`: why it does not take others."""

    checksums: Mapping[str, bytes]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed task with all that SQL knows about it. `rows`: the chunks of its batch, in order."""

    lease: Lease
    message: StorageTask
    generation: Generation
    batch: Batch
    rows: Sequence[ChunkRow]
    segments: Sequence[Segment]

    @property
    def batch_id(self) -> BatchId:
        return BatchId.parse(self.lease.task.id)

    def vectors(self, written: _Written) -> _Vectors:
        """What SQL records of the rows written for this task."""
        return {
            "document_id": self.generation.document_id,
            "collection_id": self.generation.collection.collection_id,
            "generation_id": self.generation.generation_id,
            "chunk_ids": [cid for cid in self.message.chunk_id_list() if cid not in written.refused],
            "checksums": written.checksums,
        }

    def dead(self, refused: Mapping[str, str]) -> list[DeadLetter]:
        """The chunks that were given up: by the model, or as the store refused them."""
        dead = [(Stage.EMBEDDING, self.rows[dead.position], dead.reason) for dead in self.message.dead]
        row_of = self.row_of()
        mine = (cid for cid in self.message.chunk_id_list() if cid in refused)
        dead += [(Stage.STORAGE, row_of[chunk_id], refused[chunk_id]) for chunk_id in mine]
        return [
            DeadLetter(stage, reason, self.batch.ordinal, row.chunk_index, row.start, row.end)
            for stage, row, reason in dead
        ]

    def row_of(self) -> Mapping[str, ChunkRow]:
        return {row.chunk_id: row for row in self.rows}


class StorageLoop(StageLoop):
    """Writes `StorageTask`s to the vector store and SQL, and completes jobs."""

    stage = Stage.STORAGE

    def __init__(
        self, name: str, services: Services, *, store: VectorStore, settings: VectorStoreSettings
    ) -> None:
        super().__init__(name, services)
        self._store = store
        self._settings = settings

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, failures = decoded(leases, StorageTask)
        found = await self._database.read(lambda conn: list(self._look_up(conn, messages)))
        by_collection: dict[str, list[_Work]] = {}
        for item in found:
            if isinstance(item, _Work):
                by_collection.setdefault(item.generation.collection.name, []).append(item)
            else:
                lease, failure = item
                failures[lease.task.id] = failure
        for name, work in by_collection.items():
            failures.update(await self._store_batches(name, work))
        return failures

    async def give_up(self, lease: Lease, reason: str) -> None:
        await give_up_batch(self._database, lease, reason, self._clock.now())

    def _look_up(
        self, conn: Connection, messages: Iterable[tuple[Lease, StorageTask]]
    ) -> Iterable[_Work | tuple[Lease, Exception]]:
        """What is to be stored; tasks of finished jobs and finished batches are left out."""
        messages = list(messages)
        found = jobs.get_many(conn, sorted({message.job_id for _, message in messages}))
        wanted = [
            (lease, message, found[message.job_id])
            for lease, message in messages
            if message.job_id in found and BatchId.parse(lease.task.id).wanted_by(found[message.job_id])
        ]
        batches = batches_among(conn, [(message.job_id, message.ordinal) for _, message, _ in wanted])
        # Before the marks: versions know the deletions, and one that ends in between is seen in either.
        generations = documents.generations_by_id(conn, sorted({job.generation_id for _, _, job in wanted}))
        marked = chunks.ids_being_deleted(
            conn, [cid for _, message, _ in wanted for cid in message.chunk_id_list()]
        )
        for lease, message, job in wanted:
            batch = batches.get((message.job_id, message.ordinal))
            generation = generations.get(job.generation_id)
            if batch is None or batch.state is BatchState.DONE or generation is None:
                continue
            if not marked.isdisjoint(message.chunk_id_list()):
                yield lease, _marked(lease)
                continue
            yield self._work(conn, lease, message, generation, batch)

    def _work(
        self, conn: Connection, lease: Lease, message: StorageTask, generation: Generation, batch: Batch
    ) -> _Work:
        rows = chunks.between(conn, generation.generation_id, batch.first_chunk, batch.chunks)
        texts: list[Segment] = []
        if self._settings.store_documents and message.chunk_ids:
            span = rows[0].start, max(row.end for row in rows)
            texts = segments.between(conn, generation.generation_id, *span)
        return _Work(lease, message, generation, batch, rows, texts)

    async def _store_batches(self, collection: str, work: Sequence[_Work]) -> Failures:
        first = work[0].generation.collection
        await self._store.ensure_collection(collection, space=first.space, dim=first.dim)
        rows = await self._wrong_or_missing(collection, work)
        refused = await self._upsert(collection, rows)
        held = [cid for item in work for cid in item.message.chunk_id_list() if cid not in refused]
        checksums = checksums_of(*await self._store.vectors(collection, held)) if held else {}
        written = _Written(checksums, refused)
        self._metrics.batch_chunks.labels(self.stage.value).observe(len(rows.ids))
        now = self._clock.now()
        again = await self._database.write(lambda conn: _record(conn, work, written, now))
        return {item.lease.task.id: _marked(item.lease) for item in again}

    async def _upsert(self, collection: str, rows: VectorRows) -> Mapping[str, str]:
        """Write the rows; what the store will never take is found by halving: id -> reason."""
        if not rows.ids:
            return {}
        try:
            await self._store.upsert(collection, rows)
        except SpaceMismatch:
            raise
        except Permanent as exc:
            if len(rows.ids) == 1:
                self._log.error("row refused: {}", exc, chunk=rows.ids[0])
                return {rows.ids[0]: str(exc)}
            middle = len(rows.ids) // 2
            first = await self._upsert(collection, rows.part(0, middle))
            return {**first, **await self._upsert(collection, rows.part(middle, len(rows.ids)))}
        return {}

    async def _wrong_or_missing(self, collection: str, work: Sequence[_Work]) -> VectorRows:
        """The rows to write. On a redelivery those already there are left alone, if they are right: rewriting
        an existing id while being killed is what corrupts Chroma's index (chroma #7678)."""
        again = [item.message for item in work if self.attempt_of(item.lease) > 1]
        there = await self._right_rows(collection, again) if again else set()
        return _vector_rows(work, there, with_documents=self._settings.store_documents)

    async def _right_rows(self, collection: str, messages: Sequence[StorageTask]) -> set[str]:
        """Ids whose row holds the message's vector, or what another batch made of the same text."""
        wanted = {
            chunk_id: vector
            for message in messages
            for chunk_id, vector in zip(message.chunk_id_list(), message.vectors_array(), strict=True)
        }
        ids, held = await self._store.vectors(collection, list(wanted))
        if not ids:
            return set()
        same = same_direction(held, np.stack([wanted[row_id] for row_id in ids]))
        return {row_id for row_id, right in zip(ids, same, strict=True) if right}


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
        metadatas += [chunk_metadata(item.generation, item.message.job_id, row) for row in rows]
        vectors.append(item.message.vectors_array()[keep])
        if with_documents:
            texts += segments.slice_text(item.segments, [(row.start, row.end) for row in rows])
    return VectorRows(
        ids=ids,
        vectors=np.concatenate(vectors),
        metadatas=metadatas,
        documents=texts if with_documents else None,
    )


def _record(conn: Connection, work: Sequence[_Work], written: _Written, now: float) -> list[_Work]:
    """Count the batches and finish the jobs that are done; returns the work that must be done again since
    some of its ids are being deleted, or may have been after they were written."""
    document_lock.lock(conn, (item.generation.document_id for item in work))
    current = jobs.get_many(conn, [item.message.job_id for item in work])
    deletions = documents.deletion_counts(conn, sorted({item.generation.document_id for item in work}))
    wanted: list[tuple[_Work, Job]] = []
    again: list[_Work] = []
    for item in sorted(work, key=lambda item: item.message.job_id):
        job = current.get(item.message.job_id)
        if job is None or not item.batch_id.wanted_by(job):
            _leave_to_deletion(conn, item, written, now)
        elif deletions[item.generation.document_id] != item.generation.deletions:
            _leave_to_deletion(conn, item, written, now)
            again.append(item)
        else:
            chunks.record_stored(conn, **item.vectors(written))
            wanted.append((item, job))
    marked = chunks.ids_being_deleted(
        conn, [cid for item, _ in wanted for cid in item.message.chunk_id_list()]
    )
    for item, job in wanted:
        if marked.isdisjoint(item.message.chunk_id_list()):
            _count(conn, item, job, written, now)
        else:
            documents.request_cleanup(conn, item.generation.document_id)
            again.append(item)
    return again


def _leave_to_deletion(conn: Connection, item: _Work, written: _Written, now: float) -> None:
    """While its vectors were written the job ended, or began anew, or is gone with its document; or others
    of the document were deleted, and perhaps these."""
    documents.restore_as_deleted(conn, item.generation, now)
    chunks.record_for_deletion(conn, **item.vectors(written))
    documents.request_cleanup(conn, item.generation.document_id)


def _count(conn: Connection, item: _Work, job: Job, written: _Written, now: float) -> None:
    dead = item.dead(written.refused)
    if item.message.span is None:
        reused = len(item.rows) - len(item.message.chunk_id_list()) - len(item.message.dead)
        jobs.record_batch_stored(conn, job.job_id, item.batch.ordinal, reused=reused, dead=dead, now=now)
    else:
        dead_letters.add(conn, job.job_id, dead, now)
        settle_batch(conn, job, item.batch, reused=0, now=now)
    publish_if_done(conn, job, now)


def _marked(lease: Lease) -> MarkedForDeletion:
    return MarkedForDeletion(f"batch {lease.task.id}: an older version's rows go first")
