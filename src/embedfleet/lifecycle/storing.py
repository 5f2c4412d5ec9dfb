"""How vectors that are in the vector store are recorded, counted, or left to deletion.

The vector store is written first and SQL records it afterwards, so what a vector was written for may be over
by then. Every function here locks the documents, looks at the present state, and decides in that one unit:
a vector that is still wanted is recorded as stored; any other is recorded as one to delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.completion import publish_if_done, settle_batch
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Stage, StorageTask
from embedfleet.records import batches, chunks, dead_letters, documents, jobs, segments
from embedfleet.records.batches import Batch, batches_among
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.documents import Generation
from embedfleet.records.jobs import Job
from embedfleet.records.segments import Segment
from embedfleet.sql import document_lock
from embedfleet.sql.tables import BatchState


@dataclass(frozen=True, slots=True)
class BatchToStore:
    """A claimed storage task with all that SQL knows about it.

    `rows`: the chunks of its batch, in order. `segments`: the text of these chunks, if it was asked for.
    """

    lease: Lease
    message: StorageTask
    generation: Generation
    batch: Batch
    rows: Sequence[ChunkRow]
    segments: Sequence[Segment]

    @property
    def batch_id(self) -> BatchId:
        return BatchId.parse(self.lease.task.id)

    @property
    def document_id(self) -> str:
        return self.generation.document_id

    def row_of(self) -> Mapping[str, ChunkRow]:
        """The batch's chunks by id."""
        return {row.chunk_id: row for row in self.rows}

    def dead_letters(self, refused: Mapping[str, str]) -> list[DeadLetter]:
        """The chunks that were given up: by the model, or because the vector store refused them."""
        dead = [(Stage.EMBEDDING, self.rows[dead.position], dead.reason) for dead in self.message.dead]
        row_of = self.row_of()
        mine = (chunk_id for chunk_id in self.message.chunk_id_list() if chunk_id in refused)
        dead += [(Stage.STORAGE, row_of[chunk_id], refused[chunk_id]) for chunk_id in mine]
        return [
            DeadLetter(stage, reason, self.batch.ordinal, row.chunk_index, row.start, row.end)
            for stage, row, reason in dead
        ]


@dataclass(frozen=True, slots=True)
class WrittenVectors:
    """What the vector store made of a write.

    `checksums`: of the vectors that it holds now, by chunk id. `refused`: why it does not take others, by id.
    """

    checksums: Mapping[str, bytes]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundBatches:
    """`to_store`: what is still wanted. `waiting`: tasks with an id that is being deleted at the moment."""

    to_store: Sequence[BatchToStore]
    waiting: Sequence[Lease]


def look_up(
    conn: Connection, messages: Sequence[tuple[Lease, StorageTask]], *, with_texts: bool
) -> FoundBatches:
    """What is to be stored of these tasks; those of finished jobs and finished batches are left out."""
    found = jobs.get_many(conn, sorted({message.job_id for _, message in messages}))
    wanted = [
        (lease, message, found[message.job_id])
        for lease, message in messages
        if message.job_id in found and BatchId.parse(lease.task.id).wanted_by(found[message.job_id])
    ]
    known_batches = batches_among(conn, [(message.job_id, message.ordinal) for _, message, _ in wanted])
    # Read before the marks: a generation carries its document's number of deletions, so a deletion that ends
    # between the two reads shows in one of them.
    generations = documents.generations_by_id(conn, sorted({job.generation_id for _, _, job in wanted}))
    ids = [chunk_id for _, message, _ in wanted for chunk_id in message.chunk_id_list()]
    being_deleted = chunks.ids_being_deleted(conn, ids)
    to_store: list[BatchToStore] = []
    waiting: list[Lease] = []
    for lease, message, job in wanted:
        batch = known_batches.get((message.job_id, message.ordinal))
        generation = generations.get(job.generation_id)
        if batch is None or batch.state is BatchState.DONE or generation is None:
            continue
        if being_deleted.isdisjoint(message.chunk_id_list()):
            rows = chunks.between(conn, generation.generation_id, batch.first_chunk, batch.chunks)
            texts = _texts(conn, generation, rows) if with_texts and message.chunk_ids else []
            to_store.append(BatchToStore(lease, message, generation, batch, rows, texts))
        else:
            waiting.append(lease)
    return FoundBatches(to_store, waiting)


def record_batches(
    conn: Connection, stored: Sequence[BatchToStore], written: WrittenVectors, now: float
) -> list[BatchToStore]:
    """Record the vectors, count the batches and finish the jobs that are done.

    Returns the batches that must be stored again, because some of their ids are being deleted, or may have
    been deleted after they were written.
    """
    document_lock.lock(conn, (batch.document_id for batch in stored))
    current = jobs.get_many(conn, [batch.message.job_id for batch in stored])
    deletions = documents.deletion_counts(conn, sorted({batch.document_id for batch in stored}))
    wanted: list[tuple[BatchToStore, Job]] = []
    again: list[BatchToStore] = []
    for batch in sorted(stored, key=lambda batch: batch.message.job_id):
        ids = [chunk_id for chunk_id in batch.message.chunk_id_list() if chunk_id not in written.refused]
        job = current.get(batch.message.job_id)
        if job is None or not batch.batch_id.wanted_by(job):
            # While the vectors were written the job ended, began a new run, or went with its document.
            _leave_to_deletion(conn, batch.generation, ids, written.checksums, now)
        elif deletions[batch.document_id] != batch.generation.deletions:
            # Vectors of the document were deleted in between, and perhaps these.
            _leave_to_deletion(conn, batch.generation, ids, written.checksums, now)
            again.append(batch)
        else:
            _record_stored(conn, batch.generation, ids, written.checksums)
            wanted.append((batch, job))
    # Looked at after all are recorded: an id that is being deleted keeps its mark when it is recorded.
    ids = [chunk_id for batch, _ in wanted for chunk_id in batch.message.chunk_id_list()]
    being_deleted = chunks.ids_being_deleted(conn, ids)
    for batch, job in wanted:
        if being_deleted.isdisjoint(batch.message.chunk_id_list()):
            _count(conn, batch, job, batch.dead_letters(written.refused), now)
        else:
            documents.request_cleanup(conn, batch.document_id)
            again.append(batch)
    return again


def record_rewritten(
    conn: Connection, described_by: Mapping[str, Generation], checksums: Mapping[str, bytes], now: float
) -> int:
    """Record vectors that repair wrote again; returns how many of them the store is still to hold.

    `described_by`: the version whose metadata each row carries, by chunk id.
    """
    document_lock.lock(conn, {generation.document_id for generation in described_by.values()})
    known = chunks.stored_vectors(conn, list(described_by))
    by_generation: dict[int, list[str]] = {}
    for chunk_id, generation in described_by.items():
        by_generation.setdefault(generation.generation_id, []).append(chunk_id)
    for generation_id, ids in by_generation.items():
        generation = described_by[ids[0]]
        wanted = [chunk_id for chunk_id in ids if chunk_id in known]
        unwanted = [chunk_id for chunk_id in ids if chunk_id not in known]
        if wanted:
            _record_stored(conn, generation, wanted, checksums)
        if unwanted:
            _leave_to_deletion(conn, generation, unwanted, checksums, now)
        # A row that should describe another version by now gets that version's metadata from a deletion task.
        if any(known[chunk_id].described_by != generation_id for chunk_id in wanted):
            documents.request_cleanup(conn, generation.document_id)
    return len(known)


def _texts(conn: Connection, generation: Generation, rows: Sequence[ChunkRow]) -> list[Segment]:
    """The segments that hold the text of these chunks."""
    return segments.between(conn, generation.generation_id, rows[0].start, max(row.end for row in rows))


def _record_stored(
    conn: Connection, generation: Generation, chunk_ids: Iterable[str], checksums: Mapping[str, bytes]
) -> None:
    chunks.record_stored(
        conn,
        document_id=generation.document_id,
        collection_id=generation.collection.collection_id,
        generation_id=generation.generation_id,
        chunk_ids=chunk_ids,
        checksums=checksums,
    )


def _leave_to_deletion(
    conn: Connection,
    generation: Generation,
    chunk_ids: Iterable[str],
    checksums: Mapping[str, bytes],
    now: float,
) -> None:
    """Have vectors deleted that were written for what is over by now."""
    # The document may be gone with its row, which a deletion task needs.
    documents.restore_as_deleted(conn, generation, now)
    chunks.record_for_deletion(
        conn,
        document_id=generation.document_id,
        collection_id=generation.collection.collection_id,
        generation_id=generation.generation_id,
        chunk_ids=chunk_ids,
        checksums=checksums,
    )
    documents.request_cleanup(conn, generation.document_id)


def _count(
    conn: Connection, stored: BatchToStore, job: Job, letters: Sequence[DeadLetter], now: float
) -> None:
    """Count the batch as stored but for its dead chunks, and finish the job if it was the last one."""
    message = stored.message
    if message.span is None:
        reused = len(stored.rows) - len(message.chunk_id_list()) - len(message.dead)
        batches.record_stored(conn, job.job_id, stored.batch.ordinal, reused=reused, dead=letters, now=now)
    else:  # a part of a batch: the batch counts when its last part is settled
        dead_letters.add(conn, job.job_id, letters, now)
        settle_batch(conn, job, stored.batch, reused=0, now=now)
    publish_if_done(conn, job, now)
