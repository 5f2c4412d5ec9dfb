"""Writes documents whose chunks and vectors another system has made.

It is the way of every document, with the vectors of a source in place of a model's: SQL has the document, its
chunks and its job before a vector is written, and readers see it when all of its vectors are there. So
whatever ends in between leaves an unfinished job. The next run of the adoption ends it, or else the workers
cut and embed its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import Connection

from embedfleet.adoption.beginning import BegunDocument, TakenDocument, begin
from embedfleet.clock import Clock
from embedfleet.lifecycle import storing
from embedfleet.lifecycle.completion import publish_done
from embedfleet.queue_schemas import UserTier
from embedfleet.records import (
    audit,
    batches,
    chunks,
    document_cleanup,
    embedding_cache,
    jobs,
    store_fence,
)
from embedfleet.records import generations as generation_records
from embedfleet.records.audit import LOCAL, Deed
from embedfleet.records.batches import StoredBatch
from embedfleet.records.collections import Collection
from embedfleet.records.embedding_cache import CacheUse
from embedfleet.records.metadata import chunk_metadata
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of, same_direction
from embedfleet.vectors.port import VectorRows, VectorStore


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
        part_id = self._store.part_id
        begun = await self._database.write(lambda conn: begin(conn, page, self._default_tier, now))
        checksums: dict[str, bytes] = {}
        together: dict[Collection, list[BegunDocument]] = {}
        for one in begun:
            together.setdefault(one.generation.collection, []).append(one)
        for collection, some in together.items():
            checksums |= await self._store_vectors(collection, some)
        return await self._database.write(lambda conn: self._complete(conn, begun, checksums, part_id))

    async def note(self, details: Mapping[str, str | int]) -> None:
        """Write into the audit log what was adopted."""
        now = self._clock.now()
        await self._database.write(lambda conn: audit.add(conn, Deed(LOCAL, "adopt", None, details), now))

    async def _store_vectors(
        self, collection: Collection, begun: Sequence[BegunDocument]
    ) -> dict[str, bytes]:
        """Write the vectors to the store, read them back, and return their checksums."""
        await self._store.ensure_collection(collection)
        there = await self._right_rows(collection, [one for one in begun if one.again])
        rows = _vector_rows(begun, there, with_documents=self._with_documents)
        if rows.ids:
            await self._store.upsert(collection, rows)
        ids = [chunk_id for one in begun for chunk_id in one.ids]
        return checksums_of(*await self._store.vectors(collection, ids))

    async def _right_rows(self, collection: Collection, begun: Sequence[BegunDocument]) -> set[str]:
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
        self,
        conn: Connection,
        begun: Sequence[BegunDocument],
        checksums: Mapping[str, bytes],
        part_id: str | None,
    ) -> set[str]:
        """Record the vectors and finish the jobs, so that readers see the documents."""
        now = self._clock.now()
        wanted, unwanted = _still_wanted(conn, begun)
        # As in `storing.record_batches`: vectors that were written for nothing are left to a deletion.
        storing.leave_to_deletion(conn, [(one.generation, one.ids) for one in unwanted], checksums, now)
        if not wanted:
            return set()
        changes = document_cleanup.changes(conn, sorted({one.document.document_id for one in wanted}))
        # The metadata of these changed since the begin, so their rows have that of before.
        patched = {
            one.document.document_id
            for one in wanted
            if changes[one.document.document_id].patches != one.generation.patches
        }
        chunks.record_stored(conn, [(one.generation, one.ids) for one in wanted], checksums, patched)
        store_fence.require_open(conn, part_id)
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


def _still_wanted(
    conn: Connection, begun: Sequence[BegunDocument]
) -> tuple[list[BegunDocument], list[BegunDocument]]:
    """Return those whose job goes on as it was begun, and the others.

    The others were deleted, superseded, or cut again by a worker that was offered the job.
    """
    document_lock.lock(conn, [one.document.document_id for one in begun])
    current = jobs.get_locked(conn, [one.job.job_id for one in begun])
    generations = generation_records.generations_by_id(conn, [one.generation.generation_id for one in begun])
    wanted: list[BegunDocument] = []
    unwanted: list[BegunDocument] = []
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


def _vector_rows(begun: Sequence[BegunDocument], there: set[str], *, with_documents: bool) -> VectorRows:
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


def _cache_use(one: BegunDocument) -> CacheUse:
    vectors = one.document.vectors.astype("<f4", copy=False)
    fresh = {key: vector.tobytes() for key, vector in zip(one.document.cache_keys, vectors, strict=True)}
    return CacheUse(one.generation.collection.collection_id, one.document.document_id, {}, fresh)
