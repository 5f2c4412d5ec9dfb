"""Writes documents whose chunks and vectors another system has made.

It is the way of every document, with the vectors of a source in place of a model's: SQL has the document, its
chunks and its job before a vector is written, and readers see it when all of its vectors are there. So
whatever ends in between leaves an unfinished job. The next run of the adoption ends it, or else the workers
cut and embed its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet import document_metadata
from embedfleet.adoption.survey import DocumentKey
from embedfleet.clock import Clock
from embedfleet.document_metadata import Value
from embedfleet.inference.backend import ModelInfo
from embedfleet.lifecycle import storing
from embedfleet.lifecycle.admission import new_job_id
from embedfleet.lifecycle.completion import publish_done
from embedfleet.queue_schemas import UserTier
from embedfleet.records import batches, chunks, collections, documents, embedding_cache, jobs, outbox, tenants
from embedfleet.records.batches import Batch, StoredBatch
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.collections import Collection
from embedfleet.records.documents import CUT_ELSEWHERE, DocumentName, Generation, NewGeneration, Recipe
from embedfleet.records.embedding_cache import CacheUse
from embedfleet.records.jobs import Job, JobEnd, NewJob
from embedfleet.records.metadata import chunk_metadata
from embedfleet.records.outbox import WaitingJob
from embedfleet.records.segments import Segment
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of, same_direction
from embedfleet.vectors.port import VectorRows, VectorStore

_PRIORITY = 50
# Jobs are listed in the order of their creation, so those of a page get instants of their own.
_BETWEEN_JOBS_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class TakenDocument:
    """A document to write.

    `chunks`, `texts`, `vectors` (float32 (n, dim)) and `cache_keys` have one entry for each chunk.
    """

    key: DocumentKey
    document_id: str
    model: ModelInfo
    recipe: Recipe
    segments: Sequence[Segment]
    source: str | None
    metadata: Mapping[str, Value]
    coverage: float
    chunks: Sequence[ChunkRow]
    texts: Sequence[str]
    vectors: NDArray[np.float32]
    cache_keys: Sequence[bytes]

    @property
    def batches(self) -> list[Batch]:
        """The batches of its job."""
        size, count = self.recipe.batch_chunks, len(self.chunks)
        return [
            Batch(ordinal, first, min(size, count - first))
            for ordinal, first in enumerate(range(0, count, size))
        ]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A document that is in SQL with an unfinished job. `again`: an earlier run has begun it."""

    document: TakenDocument
    generation: Generation
    job: Job
    again: bool

    @property
    def ids(self) -> list[str]:
        return [row.chunk_id for row in self.document.chunks]


class Writing:
    """Writes pages of documents."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        clock: Clock,
        *,
        default_tier: UserTier,
        with_documents: bool,
        caching: bool,
    ) -> None:
        """`with_documents`: the vector store has the texts too. `caching`: the embedding cache gets the
        vectors."""
        self._database = database
        self._store = store
        self._clock = clock
        self._default_tier = default_tier
        self._with_documents = with_documents
        self._caching = caching

    async def write(self, page: Sequence[TakenDocument]) -> set[str]:
        """Write these documents, and return the ids of those that readers see by this call.

        A document that is here already, or that was changed or deleted since it was begun, is left out. The
        call may be repeated, also after a crash at any point. Raises what the database and the store raise.
        """
        now = self._clock.now()
        begun = await self._database.write(lambda conn: _begin(conn, page, self._default_tier, now))
        checksums: dict[str, bytes] = {}
        together: dict[Collection, list[_Begun]] = {}
        for one in begun:
            together.setdefault(one.generation.collection, []).append(one)
        for collection, some in together.items():
            checksums |= await self._store_vectors(collection, some)
        return await self._database.write(lambda conn: self._complete(conn, begun, checksums))

    async def _store_vectors(self, collection: Collection, begun: Sequence[_Begun]) -> dict[str, bytes]:
        """Write the vectors to the store, read them back, and return their checksums."""
        await self._store.ensure_collection(collection)
        there = await self._right_rows(collection, [one for one in begun if one.again])
        rows = _vector_rows(begun, there, with_documents=self._with_documents)
        if rows.ids:
            await self._store.upsert(collection, rows)
        ids = [chunk_id for one in begun for chunk_id in one.ids]
        return checksums_of(*await self._store.vectors(collection, ids))

    async def _right_rows(self, collection: Collection, begun: Sequence[_Begun]) -> set[str]:
        """Return the ids whose vectors an earlier run has written.

        They are not written again: a kill during a second write of an id can corrupt Chroma's index
        (chroma #7678).
        """
        wanted = {
            chunk_id: vector
            for one in begun
            for chunk_id, vector in zip(one.ids, one.document.vectors, strict=True)
        }
        if not wanted:
            return set()
        ids, held = await self._store.vectors(collection, list(wanted))
        if not ids:
            return set()
        same = same_direction(held, np.stack([wanted[row_id] for row_id in ids]))
        return {row_id for row_id, right in zip(ids, same, strict=True) if right}

    def _complete(
        self, conn: Connection, begun: Sequence[_Begun], checksums: Mapping[str, bytes]
    ) -> set[str]:
        """Record the vectors and finish the jobs, so that readers see the documents."""
        now = self._clock.now()
        wanted, unwanted = _still_wanted(conn, begun)
        # As in `storing.record_batches`: vectors that were written for nothing are left to a deletion.
        storing.leave_to_deletion(conn, [(one.generation, one.ids) for one in unwanted], checksums, now)
        if not wanted:
            return set()
        changes = documents.changes(conn, sorted({one.document.document_id for one in wanted}))
        # The metadata of these changed since the begin, so their rows have that of before.
        patched = {
            one.document.document_id
            for one in wanted
            if changes[one.document.document_id].patches != one.generation.patches
        }
        chunks.record_stored(conn, [(one.generation, one.ids) for one in wanted], checksums, patched)
        stored = [
            StoredBatch(one.job.job_id, batch.ordinal, batch.chunks)
            for one in wanted
            for batch in one.document.batches
        ]
        batches.record_stored(conn, stored, now)
        if self._caching:
            embedding_cache.record_uses(conn, [_cache_use(one) for one in wanted], now)
        publish_done(conn, [one.job for one in wanted], now)
        return {one.document.document_id for one in wanted}


def _begin(
    conn: Connection, page: Sequence[TakenDocument], default_tier: UserTier, now: float
) -> list[_Begun]:
    """Write what a chunking worker would have written of these documents, and return them.

    Documents that are here already are left out, except those that an earlier run has begun alike.
    """
    names = sorted({one.key.tenant for one in page})
    tenants.lock(conn, names)  # before the documents: see `document_lock`
    document_lock.lock(conn, [one.document_id for one in page])
    known = documents.generations_of_many(conn, [one.document_id for one in page])
    unfinished = jobs.unfinished_of_documents(conn, list(known))
    again = [
        (one, known[one.document_id][0], unfinished[one.document_id][0])
        for one in page
        if one.document_id in unfinished and _begun_alike(conn, one, known[one.document_id][0])
    ]
    new = _without_version(conn, page, known)
    rows = tenants.get_many(conn, names)
    tiers = {name: (rows[name].tier if name in rows else None) or default_tier for name in names}
    return [
        *(_Begun(document, generation, job, again=True) for document, generation, job in again),
        *_begin_new(conn, new, tiers, {name: some[0].number for name, some in known.items()}, now),
    ]


def _without_version(
    conn: Connection, page: Sequence[TakenDocument], known: Mapping[str, Sequence[Generation]]
) -> list[TakenDocument]:
    """Return the documents that are not here, or of which no version is left.

    One that is being deleted is left out, as is one whose vectors are: its ids must not be written yet.
    """
    new = [one for one in page if not any(before.in_use for before in known.get(one.document_id, ()))]
    had = [one for one in new if one.document_id in known]
    busy = documents.deleted_among(conn, [one.document_id for one in had])
    ids = {row.chunk_id: one.document_id for one in had for row in one.chunks}
    busy |= {ids[chunk_id] for chunk_id in chunks.ids_being_deleted(conn, list(ids))}
    return [one for one in new if one.document_id not in busy]


def _begun_alike(conn: Connection, one: TakenDocument, generation: Generation) -> bool:
    """Whether an earlier run has begun to take the document with these very chunks."""
    if not generation.begun_elsewhere:
        return False
    (there,) = chunks.between(conn, [(generation.generation_id, 0, len(one.chunks) + 1)])
    same_text = generation.recipe.content_hash == one.recipe.content_hash
    return same_text and [row.chunk_id for row in there] == [row.chunk_id for row in one.chunks]


def _begin_new(
    conn: Connection,
    new: Sequence[TakenDocument],
    tiers: Mapping[str, UserTier],
    numbers: Mapping[str, int],
    now: float,
) -> list[_Begun]:
    """Write new documents. `numbers` has the number of the last version of those that had one."""
    if not new:
        return []
    documents.ensure_documents(
        conn, [DocumentName(one.document_id, *one.key, one.source) for one in new], now
    )
    generation_ids = _add_generations(conn, new, numbers)
    job_ids = [new_job_id(now) for _ in new]
    jobs.create(
        conn,
        [
            NewJob(
                job_id=job_id,
                tenant=one.key.tenant,
                document_id=one.document_id,
                generation_id=generation_id,
                user_tier=tiers[one.key.tenant],
                priority=_PRIORITY,
                created_at=now + place * _BETWEEN_JOBS_SECONDS,
            )
            for place, (one, generation_id, job_id) in enumerate(
                zip(new, generation_ids, job_ids, strict=True)
            )
        ],
    )
    # They count as offered, so the leader leaves them alone for as long as a job may take.
    offered = [
        WaitingJob(job_id, 1, one.key.tenant, _PRIORITY, one.recipe.chars)
        for one, job_id in zip(new, job_ids, strict=True)
    ]
    outbox.mark_offered(conn, offered, now)
    named = list(zip(new, generation_ids, strict=True))
    chunks.add(conn, [(one.document_id, generation_id, one.chunks) for one, generation_id in named])
    batches.add(conn, {job_id: one.batches for one, job_id in zip(new, job_ids, strict=True)})
    ends = [JobEnd(job_id, len(one.chunks), one.coverage) for one, job_id in zip(new, job_ids, strict=True)]
    broken = jobs.seal(conn, ends, now)
    assert not broken, f"the batches were made of the chunks: {broken}"
    made = documents.generations_by_id(conn, generation_ids)
    found = jobs.get_many(conn, job_ids)
    return [
        _Begun(one, made[generation_id], found[job_id], again=False)
        for (one, generation_id), job_id in zip(named, job_ids, strict=True)
    ]


def _add_generations(conn: Connection, new: Sequence[TakenDocument], numbers: Mapping[str, int]) -> list[int]:
    wanted = [
        collections.Wanted(one.key.tenant, one.model.name, one.model.space, one.model.dim) for one in new
    ]
    there = collections.ensure(conn, list(dict.fromkeys(wanted)))
    return documents.add_generations(
        conn,
        [
            NewGeneration(
                one.document_id,
                numbers.get(one.document_id, 0) + 1,
                one.recipe,
                there[collection.key],
                one.segments,
                CUT_ELSEWHERE,
                written_metadata=document_metadata.written(one.metadata),
            )
            for one, collection in zip(new, wanted, strict=True)
        ],
    )


def _still_wanted(conn: Connection, begun: Sequence[_Begun]) -> tuple[list[_Begun], list[_Begun]]:
    """Return those whose job goes on as it was begun, and the others.

    The others were deleted, superseded, or cut again by a worker that was offered the job.
    """
    document_lock.lock(conn, [one.document.document_id for one in begun])
    current = jobs.get_locked(conn, [one.job.job_id for one in begun])
    generations = documents.generations_by_id(conn, [one.generation.generation_id for one in begun])
    wanted: list[_Begun] = []
    unwanted: list[_Begun] = []
    for one in begun:
        job = current.get(one.job.job_id)
        generation = generations.get(one.generation.generation_id)
        goes_on = (
            job is not None
            and not job.status.terminal
            and job.run == one.job.run
            and generation is not None
            and generation.cut_elsewhere
            # Vectors that were deleted since the begin may be among those that were written.
            and generation.deletions == one.generation.deletions
        )
        (wanted if goes_on else unwanted).append(one)
    return wanted, unwanted


def _vector_rows(begun: Sequence[_Begun], there: set[str], *, with_documents: bool) -> VectorRows:
    """Return the rows to write: all but those that are there."""
    kept = [
        (one, place)
        for one in begun
        for place, row in enumerate(one.document.chunks)
        if row.chunk_id not in there
    ]
    dim = begun[0].document.vectors.shape[1]
    vectors = [one.document.vectors[place] for one, place in kept]
    return VectorRows(
        ids=[one.document.chunks[place].chunk_id for one, place in kept],
        vectors=np.stack(vectors) if vectors else np.empty((0, dim), dtype=np.float32),
        metadatas=[
            chunk_metadata(one.generation, one.job.job_id, one.document.chunks[place]) for one, place in kept
        ],
        documents=[one.document.texts[place] for one, place in kept] if with_documents else None,
    )


def _cache_use(one: _Begun) -> CacheUse:
    vectors = one.document.vectors.astype("<f4", copy=False)
    fresh = {key: vector.tobytes() for key, vector in zip(one.document.cache_keys, vectors, strict=True)}
    return CacheUse(one.generation.collection.collection_id, one.document.document_id, {}, fresh)
