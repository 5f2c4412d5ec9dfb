"""Records vectors that were written to the vector store: as stored, or as vectors to delete.

The vector store is written first, and SQL records it afterwards, unless both are in one database
(`VectorsToWrite`). In between, the run of the job may end. So each function that records locks the documents,
looks at their present state, and decides in that one unit. A vector that is still wanted is recorded as
stored. Any other vector is recorded for deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.lifecycle.batch_id import BatchId
from embedfleet.lifecycle.completion import publish_done, settle_batch
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Stage, StorageTask
from embedfleet.records import (
    batches,
    chunks,
    dead_letters,
    document_cleanup,
    jobs,
    segments,
    store_fence,
)
from embedfleet.records import generations as generation_records
from embedfleet.records.batches import Batch, StoredBatch, batches_among
from embedfleet.records.chunks import ChunkRow, WrittenIds
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.generations import Generation
from embedfleet.records.jobs import Job
from embedfleet.sql import document_lock
from embedfleet.sql.states import BatchState


@dataclass(frozen=True, slots=True)
class BatchToStore:
    """A claimed storage task, with the SQL rows that are needed to store it.

    `chunk_ids` are the ids of the message's vectors, in order. `rows` are the chunks of its batch, in order.
    `texts` are the texts of these chunks, if the caller asked for them; otherwise it is empty.
    """

    lease: Lease
    message: StorageTask
    batch_id: BatchId
    chunk_ids: Sequence[str]
    generation: Generation
    batch: Batch
    rows: Sequence[ChunkRow]
    texts: Sequence[str]

    @property
    def document_id(self) -> str:
        return self.generation.document_id

    def written(self, refused: Mapping[str, str]) -> WrittenIds:
        """Return the ids that were written, without those that the vector store refused."""
        return self.generation, [chunk_id for chunk_id in self.chunk_ids if chunk_id not in refused]

    def counted(self, refused: Mapping[str, str]) -> StoredBatch:
        """Return what is to be counted when the whole batch is recorded."""
        stored_before = len(self.rows) - len(self.chunk_ids) - len(self.message.dead)
        reused = stored_before + self.message.cached
        return StoredBatch(self.message.job_id, self.batch.ordinal, reused, self.dead_letters(refused))

    def dead_letters(self, refused: Mapping[str, str]) -> list[DeadLetter]:
        """Return a letter for each chunk that the model gave up or that the vector store refused."""
        dead = [(Stage.EMBEDDING, self.rows[dead.position], dead.reason) for dead in self.message.dead]
        mine = refused.keys() & set(self.chunk_ids) if refused else ()
        dead += [(Stage.STORAGE, row, refused[row.chunk_id]) for row in self.rows if row.chunk_id in mine]
        return [
            DeadLetter(stage, reason, self.batch.ordinal, row.chunk_index, row.start, row.end)
            for stage, row, reason in dead
        ]


@dataclass(frozen=True, slots=True)
class WrittenVectors:
    """The result of a write to the vector store.

    `checksums` are those of the vectors that the store holds now, by chunk id. `refused` says for each other
    id why the store does not take its vector.
    """

    checksums: Mapping[str, bytes]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VectorsToWrite:
    """Vectors that the unit itself writes, because the vector store is in the same database.

    `write` writes those of these ids, and returns the checksums of what the store then holds, by id.
    `refused` says for each other id why the store does not take its vector.
    """

    write: Callable[[Connection, Set[str]], Mapping[str, bytes]]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundBatches:
    """The claimed tasks that are still wanted.

    `to_store` can be stored now. A task in `waiting` has an id that is marked for deletion.
    """

    to_store: Sequence[BatchToStore]
    waiting: Sequence[Lease]


_OpenTask = tuple[Lease, StorageTask, BatchId, Sequence[str], Generation, Batch]
"""The first fields of `BatchToStore`, which are known before the chunks are read."""


def look_up(
    conn: Connection, messages: Sequence[tuple[Lease, StorageTask]], *, with_texts: bool
) -> FoundBatches:
    """Look up what each task needs. A task whose run, batch or text has ended is left out."""
    found = jobs.get_many(conn, sorted({message.job_id for _, message in messages}))
    wanted = [
        (lease, message, batch_id, found[message.job_id])
        for lease, message in messages
        if (batch_id := BatchId.parse(lease.task.id)).wanted_by(found.get(message.job_id))
    ]
    known_batches = batches_among(conn, [(message.job_id, message.ordinal) for _, message, _, _ in wanted])
    # Read the generations before the marks. A generation carries its document's number of deletions. So a
    # deletion that ends between the two reads shows in `record_batches`: the number is higher by then.
    generations = generation_records.generations_by_id(
        conn, sorted({job.generation_id for *_, job in wanted})
    )
    ids_of = [message.chunk_id_list() for _, message, _, _ in wanted]
    being_deleted = chunks.ids_being_deleted(conn, [chunk_id for ids in ids_of for chunk_id in ids])
    opened: list[_OpenTask] = []
    waiting: list[Lease] = []
    for (lease, message, batch_id, job), ids in zip(wanted, ids_of, strict=True):
        batch = known_batches.get((message.job_id, message.ordinal))
        generation = generations.get(job.generation_id)
        if batch is None or batch.state is BatchState.DONE or generation is None:
            continue
        if being_deleted.isdisjoint(ids):
            opened.append((lease, message, batch_id, ids, generation, batch))
        else:
            waiting.append(lease)
    return FoundBatches(_with_chunks(conn, opened, with_texts=with_texts), waiting)


def _with_chunks(conn: Connection, opened: Sequence[_OpenTask], *, with_texts: bool) -> list[BatchToStore]:
    """Add the chunks of each batch, and if asked their texts. A batch whose text is gone is left out."""
    rows_of = chunks.between(
        conn,
        [(generation.generation_id, batch.first_chunk, batch.chunks) for *_, generation, batch in opened],
    )
    texts_of: Sequence[Sequence[str] | None] = [()] * len(opened)
    if with_texts:
        texts_of = segments.texts_of(
            conn,
            [
                (generation.generation_id, [(row.start, row.end) for row in rows])
                for (*_, generation, _), rows in zip(opened, rows_of, strict=True)
            ],
        )
    return [
        BatchToStore(*task, rows, texts)
        for task, rows, texts in zip(opened, rows_of, texts_of, strict=True)
        if texts is not None
    ]


def record_batches(
    conn: Connection,
    stored: Sequence[BatchToStore],
    vectors: WrittenVectors | VectorsToWrite,
    now: float,
    *,
    part_id: str | None,
) -> list[BatchToStore]:
    """Record the vectors, count the batches, and finish the jobs that are done.

    `vectors` were written before, or are written here: then they are in the store if and only if they are
    recorded. Returns the batches that must be stored again. Some of their ids are marked for deletion, or may
    have been deleted after they were written. Raises StoreMoved if the vectors are in another
    store than `part_id` by now.
    """
    document_lock.lock(conn, (batch.document_id for batch in stored))
    current = jobs.get_locked(conn, [batch.message.job_id for batch in stored])
    changes = document_cleanup.changes(conn, sorted({batch.document_id for batch in stored}))
    wanted: list[tuple[BatchToStore, Job]] = []
    unwanted: list[BatchToStore] = []
    again: list[BatchToStore] = []
    for batch in stored:
        job = current.get(batch.message.job_id)
        if job is None or not batch.batch_id.wanted_by(job):
            # While the vectors were written, the job ended, began a new run, or was deleted.
            unwanted.append(batch)
        elif changes[batch.document_id].deletions != batch.generation.deletions:
            # Vectors of the document were deleted since the look-up. These may be among them.
            unwanted.append(batch)
            again.append(batch)
        else:
            wanted.append((batch, job))
    marked: list[BatchToStore] = []
    if isinstance(vectors, WrittenVectors):
        checksums = vectors.checksums
        leave_to_deletion(conn, [batch.written(vectors.refused) for batch in unwanted], checksums, now)
    else:
        # The documents are locked, so no id is marked from here on.
        wanted, marked = _without_marked(conn, wanted)
        checksums = vectors.write(conn, {chunk_id for batch, _ in wanted for chunk_id in batch.chunk_ids})
    # The metadata of these changed since the look-up, so their rows have that of before.
    patched = {
        batch.document_id
        for batch, _ in wanted
        if changes[batch.document_id].patches != batch.generation.patches
    }
    new = [batch.written(vectors.refused) for batch, _ in wanted]
    chunks.record_stored(conn, new, checksums, patched)
    store_fence.require_open(conn, part_id)
    if isinstance(vectors, WrittenVectors):
        # Look at the marks after all are recorded: an id that is marked for deletion keeps its mark.
        wanted, marked = _without_marked(conn, wanted)
    document_cleanup.request_cleanup(conn, sorted(patched | {batch.document_id for batch in marked}))
    _count(conn, wanted, vectors.refused, now)
    return again + marked


def _without_marked(
    conn: Connection, wanted: Sequence[tuple[BatchToStore, Job]]
) -> tuple[list[tuple[BatchToStore, Job]], list[BatchToStore]]:
    """Return those without an id that is marked for deletion, and the batches of the others."""
    ids = [chunk_id for batch, _ in wanted for chunk_id in batch.chunk_ids]
    being_deleted = chunks.ids_being_deleted(conn, ids)
    free: list[tuple[BatchToStore, Job]] = []
    marked: list[BatchToStore] = []
    for batch, job in wanted:
        if being_deleted.isdisjoint(batch.chunk_ids):
            free.append((batch, job))
        else:
            marked.append(batch)
    return free, marked


def record_rewritten(
    conn: Connection,
    described_by: Mapping[str, Generation],
    checksums: Mapping[str, bytes],
    now: float,
    *,
    part_id: str | None,
) -> int:
    """Record vectors that a repair wrote again. Returns how many of them the store should still hold.

    `described_by` names, by chunk id, the generation whose metadata each row carries. `part_id` is of the
    store. Raises StoreMoved if the vectors are in another store by now.
    """
    document_lock.lock(conn, {generation.document_id for generation in described_by.values()})
    known = chunks.stored_vectors(conn, list(described_by))
    changes = document_cleanup.changes(conn, sorted({one.document_id for one in described_by.values()}))
    by_generation: dict[int, list[str]] = {}
    for chunk_id, generation in described_by.items():
        by_generation.setdefault(generation.generation_id, []).append(chunk_id)
    for generation_id, ids in by_generation.items():
        generation = described_by[ids[0]]
        wanted = [chunk_id for chunk_id in ids if chunk_id in known]
        unwanted = [chunk_id for chunk_id in ids if chunk_id not in known]
        patched = (
            {generation.document_id}
            if wanted and changes[generation.document_id].patches != generation.patches
            else set()
        )
        chunks.record_stored(conn, [(generation, wanted)], checksums, patched)
        if unwanted:
            leave_to_deletion(conn, [(generation, unwanted)], checksums, now)
        # A row may belong to another generation by now. A deletion task then writes its metadata.
        if patched or any(known[chunk_id].described_by != generation_id for chunk_id in wanted):
            document_cleanup.request_cleanup(conn, [generation.document_id])
    store_fence.require_open(conn, part_id)
    return len(known)


def leave_to_deletion(
    conn: Connection, written: Sequence[WrittenIds], checksums: Mapping[str, bytes], now: float
) -> None:
    """Record vectors for deletion, because the runs of the jobs that wrote them have ended."""
    # A document may be deleted by now, and with it its row. A deletion task needs that row.
    document_cleanup.restore_as_deleted(conn, [generation for generation, _ in written], now)
    chunks.record_for_deletion(conn, written, checksums)
    document_cleanup.request_cleanup(conn, sorted({generation.document_id for generation, _ in written}))


def _count(
    conn: Connection, stored: Sequence[tuple[BatchToStore, Job]], refused: Mapping[str, str], now: float
) -> None:
    """Count the batches as stored, except for their dead chunks. Finish the jobs that are done by that."""
    whole = [(batch, job) for batch, job in stored if batch.message.span is None]
    batches.record_stored(conn, [batch.counted(refused) for batch, _ in whole], now)
    # A batch in parts is rare, so the parts go one by one. It counts when its last part is settled.
    for batch, job in stored:
        if batch.message.span is not None:
            dead_letters.add(conn, {job.job_id: batch.dead_letters(refused)}, now)
            settle_batch(conn, job, batch.batch, reused=0, now=now)
    publish_done(conn, list({job.job_id: job for _, job in stored}.values()), now)
