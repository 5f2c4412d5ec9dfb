"""The SQL part of a cleanup, which removes the leftovers of a document.

A deletion worker takes three steps, in this order, and each may be repeated:

1. It deletes the marked vectors from the vector store, and records that.
2. The live generation may have taken over rows of the vector store from an earlier one. The worker gives them
   the metadata of the live generation, and records that.
3. It drops the SQL rows that no generation needs any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.records import (
    batches,
    chunks,
    document_cleanup,
    documents,
    embedding_cache,
    events,
    jobs,
    model_switches,
    segments,
    store_fence,
    views,
)
from embedfleet.records import generations as generation_records
from embedfleet.records.chunks import ChunkRow, MarkedVector
from embedfleet.records.generations import Generation
from embedfleet.sql import document_lock
from embedfleet.sql.states import GenerationState

# The most rows that get new metadata in one step. A step holds their metadata in memory and sends it in one
# call.
_ROWS_PER_STEP = 1000


@dataclass(frozen=True, slots=True)
class UndescribedRows:
    """Rows of the vector store that still carry the metadata of another generation than `generation`.

    `job_id` is the job that made `generation`. The new metadata names it. It is empty if the job is gone.
    """

    generation: Generation
    rows: Sequence[ChunkRow]
    job_id: str


def record_deleted(
    conn: Connection, document_id: str, gone: Sequence[MarkedVector], *, part_id: str | None
) -> None:
    """Record that these vectors were deleted from the vector store with this part id.

    Raises StoreMoved if the vectors are in another store by now, which still has them.
    """
    document_lock.lock(conn, [document_id])
    if gone:
        chunks.record_deleted(conn, document_id, gone)
        # Count in the same unit. A storage worker that wrote one of them before notices by the count that its
        # vector may be gone (`storing.record_batches`).
        document_cleanup.count_deletion(conn, document_id)
        store_fence.require_open(conn, part_id)


def next_undescribed(conn: Connection, document_id: str) -> UndescribedRows | None:
    """Return up to 1,000 rows of a live generation that have another's metadata; None if none is left."""
    for generation in _live_generations(generation_records.generations_of(conn, document_id)):
        rows = chunks.described_by_others(conn, generation.generation_id, _ROWS_PER_STEP)
        if rows:
            job = jobs.newest_of_generations(conn, [generation.generation_id]).get(generation.generation_id)
            return UndescribedRows(generation, rows, "" if job is None else job.job_id)
    return None


def record_description(conn: Connection, described: UndescribedRows, *, part_id: str | None) -> None:
    """Record that these rows of the store with this part id carry the metadata of their generation now.

    If the metadata was changed since they were read, nothing is recorded, so that they are read again.
    Raises StoreMoved if the vectors are in another store by now.
    """
    generation = described.generation
    document_lock.lock(conn, [generation.document_id])
    changes = document_cleanup.changes(conn, [generation.document_id]).get(generation.document_id)
    if changes is not None and changes.patches != generation.patches:
        return
    ids = [row.chunk_id for row in described.rows]
    chunks.record_description(conn, generation.document_id, generation.generation_id, ids)
    store_fence.require_open(conn, part_id)


def drop_unneeded_rows(conn: Connection, document_id: str, requests: int, now: float) -> None:
    """Drop the SQL rows that no generation needs, and end the cleanup.

    They are all rows of a deleted document, or the rows of the generations before a live one. `requests` is
    the number of requested cleanups when this cleanup began (`document_cleanup.cleanup_requests`). If more
    were requested since, the document stays in the list for another cleanup.
    """
    document_lock.lock(conn, [document_id])
    if chunks.vectors_to_delete(conn, document_id):
        # They were marked after this task deleted vectors. The mark came with a request for another cleanup.
        return
    generations = generation_records.generations_of(conn, document_id)
    if documents.is_deleted(conn, document_id):
        # The mark goes with the document's row. So the views are told first: they remove the document too.
        views.tell(conn, [document_id], now)
        _drop_document(conn, document_id, generations)
        return
    _drop_replaced(conn, generations)
    document_cleanup.finish_cleanup(conn, document_id, requests)


def _live_generations(generations: Sequence[Generation]) -> list[Generation]:
    """Return those that readers see: one, or two while the tenant is switched to another model."""
    return [one for one in generations if one.state is GenerationState.LIVE]


def _drop_document(conn: Connection, document_id: str, generations: Sequence[Generation]) -> None:
    """Drop all rows of a deleted document. A row is dropped before the rows that it refers to."""
    chunks.drop(conn, [generation.generation_id for generation in generations])
    events.forget_names(conn, document_id)
    jobs.drop_of_document(conn, document_id)
    embedding_cache.drop_of_document(conn, document_id)
    document_cleanup.drop(conn, document_id)


def _drop_replaced(conn: Connection, generations: Sequence[Generation]) -> None:
    """Drop the chunks, batches and texts of retired generations before the live ones. Their jobs stay.

    A retired generation after a live one of its space stays: its job has failed and may be tried again. So
    does one of either side of a switch to another model that only the other side has a live one to.
    """
    newest_in = {one.collection: one.number for one in reversed(_live_generations(generations))}
    retired = [one for one in generations if one.state is GenerationState.RETIRED]
    tenants = {one.collection.tenant for one in retired if one.collection not in newest_in}
    switches = model_switches.running_of(conn, sorted(tenants)) if newest_in and tenants else {}

    def is_replaced(one: Generation) -> bool:
        if one.collection in newest_in:
            return one.number < newest_in[one.collection]
        switch = switches.get(one.collection.tenant)
        beside = () if switch is None else switch.beside(one.collection)
        return any(one.number < number for live, number in newest_in.items() if live not in beside)

    replaced = [one.generation_id for one in retired if is_replaced(one)]
    chunks.drop(conn, replaced)
    batches.drop(conn, replaced)
    segments.drop(conn, replaced)
