"""The SQL part of a cleanup: what is left over of a document, and what was done about it.

A deletion worker does the steps in this order: it deletes the marked vectors from the vector store and
records that; it gives the rows that the live version took over that version's metadata and records that; it
drops the rows that no version needs any more. Every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.records import batches, chunks, documents, embedding_cache, jobs, segments
from embedfleet.records.chunks import ChunkRow, MarkedVector
from embedfleet.records.documents import Generation
from embedfleet.sql import document_lock
from embedfleet.sql.tables import GenerationState

# Rows described in one step: their metadata is held in memory and goes to the vector store in one call.
_ROWS_PER_STEP = 1000


@dataclass(frozen=True, slots=True)
class UndescribedRows:
    """Rows of the vector store that still carry another version's metadata.

    `job_id`: the job that made `generation`, which their metadata must name; empty if it is gone.
    """

    generation: Generation
    rows: Sequence[ChunkRow]
    job_id: str


def record_deleted(conn: Connection, document_id: str, gone: Sequence[MarkedVector]) -> None:
    """These vectors were deleted from the vector store."""
    document_lock.lock(conn, [document_id])
    if gone:
        chunks.record_deleted(conn, document_id, gone)
        # In the same unit: a storage worker that wrote one of them before tells by the count (`storing`).
        documents.count_deletion(conn, document_id)


def next_undescribed(conn: Connection, document_id: str) -> UndescribedRows | None:
    """Up to 1,000 rows that the live version took over and that do not describe it yet; None if all do."""
    generation = _live_generation(documents.generations_of(conn, document_id))
    if generation is None:
        return None
    rows = chunks.described_by_others(conn, generation.generation_id, _ROWS_PER_STEP)
    if not rows:
        return None
    job = jobs.newest_of_generation(conn, generation.generation_id)
    return UndescribedRows(generation, rows, "" if job is None else job.job_id)


def record_description(conn: Connection, described: UndescribedRows) -> None:
    """These rows carry the metadata of their generation now."""
    generation = described.generation
    document_lock.lock(conn, [generation.document_id])
    ids = [row.chunk_id for row in described.rows]
    chunks.record_description(conn, generation.document_id, generation.generation_id, ids)


def drop_unneeded_rows(conn: Connection, document_id: str, requests: int) -> None:
    """Drop a deleted document's rows, or those of the versions before the live one, and end the cleanup.

    `requests`: how many cleanups were requested when this one began (`documents.cleanup_requests`). If more
    were requested since, the document goes on asking for one.
    """
    document_lock.lock(conn, [document_id])
    if chunks.vectors_to_delete(conn, document_id):
        # Marked since this task deleted the vectors. The mark came with a request, which brings another task.
        return
    generations = documents.generations_of(conn, document_id)
    if documents.is_deleted(conn, document_id):
        _drop_document(conn, document_id, generations)
        return
    live = _live_generation(generations)
    if live is not None:
        _drop_replaced(conn, generations, live)
    documents.finish_cleanup(conn, document_id, requests)


def _live_generation(generations: Sequence[Generation]) -> Generation | None:
    return next((one for one in generations if one.state is GenerationState.LIVE), None)


def _drop_document(conn: Connection, document_id: str, generations: Sequence[Generation]) -> None:
    """Drop all rows of a deleted document; rows that refer to others go before these."""
    chunks.drop(conn, [generation.generation_id for generation in generations])
    jobs.drop_of_document(conn, document_id)
    embedding_cache.drop_of_document(conn, document_id)
    documents.drop(conn, document_id)


def _drop_replaced(conn: Connection, generations: Sequence[Generation], live: Generation) -> None:
    """Drop chunks, batches and text of retired versions before the live one; their jobs stay as history."""
    replaced = [
        one.generation_id
        for one in generations
        if one.state is GenerationState.RETIRED and one.number < live.number
    ]
    chunks.drop(conn, replaced)
    batches.drop(conn, replaced)
    segments.drop(conn, replaced)
