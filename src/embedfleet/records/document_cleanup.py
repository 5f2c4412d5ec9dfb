"""Deleted documents, what is still to be removed of documents, and how often their vectors were changed.

These are plain functions over a connection. The caller owns the transaction. It holds the document's lock
(`document_lock`) when it changes a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, literal_column, select, update

from embedfleet.records.documents import ONE_IF_THERE_ARE_VIEWS
from embedfleet.records.generations import Generation
from embedfleet.sql import document_lock
from embedfleet.sql.experiment_tables import (
    experiment_answers,
    experiment_hits,
    experiment_questions,
    impression_hits,
)
from embedfleet.sql.model_tables import switch_questions
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import documents, generations
from embedfleet.sql.tables import segments as segment_table
from embedfleet.sql.upsert import upsert


def count_patches(conn: Connection, document_ids: Sequence[str]) -> None:
    """Count one change of the metadata of each document (see `changes`)."""
    for ids in key_pages(document_ids):
        conn.execute(_COUNT_PATCHES, {"ids": ids})


def mark_deleted(conn: Connection, document_ids: Sequence[str], now: float) -> None:
    """Hide the documents from readers and retire their generations. `drop` later removes the rows."""
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    for ids in key_pages(document_ids):
        hidden = update(documents).where(documents.c.document_id.in_(ids))
        conn.execute(hidden.values(deleted_at=now, live_generation=None))
        retired = update(generations).where(generations.c.document_id.in_(ids))
        conn.execute(retired.values(state=GenerationState.RETIRED))


def restore_as_deleted(conn: Connection, targets: Sequence[Generation], now: float) -> None:
    """Write the rows of these generations' documents again, as deleted documents, if the rows are gone.

    Vectors of the documents were written after the deletion, and the cleanup of these vectors needs the rows.
    """
    for target in targets:
        document_lock.require(conn, target.document_id)
    rows = [
        {
            "document_id": target.document_id,
            "tenant": target.tenant,
            "media_id": target.media_id,
            "source": target.source,
            "deleted_at": now,
            "cleanup": 0,
            "deletions": 0,
            "patches": 0,
            "view_marks": 0,
            "created_at": now,
        }
        for target in targets
    ]
    if rows:
        conn.execute(upsert(conn.dialect.name, documents).on_conflict_do_nothing(), rows)


def request_cleanup(conn: Connection, document_ids: Sequence[str]) -> None:
    """Request a cleanup of each document: a deletion task that removes marked vectors and unneeded rows.

    It also marks the documents for the views (`records.views`).
    """
    for ids in key_pages(document_ids):
        conn.execute(_REQUEST_CLEANUP, {"ids": ids})


def cleanup_requests(conn: Connection, document_id: str) -> int:
    """Return how many cleanups were requested since the last one was finished."""
    query = select(documents.c.cleanup).where(documents.c.document_id == document_id)
    return int(conn.execute(query).scalar() or 0)


def finish_cleanup(conn: Connection, document_id: str, requests: int) -> None:
    """End the document's cleanup, unless another was requested since `requests` was read."""
    document_lock.require(conn, document_id)
    conn.execute(
        update(documents)
        .where(documents.c.document_id == document_id, documents.c.cleanup == requests)
        .values(cleanup=0)
    )


def count_deletion(conn: Connection, document_id: str) -> None:
    """Count one deletion of vectors of the document from the vector store (see `changes`)."""
    document_lock.require(conn, document_id)
    conn.execute(
        update(documents)
        .where(documents.c.document_id == document_id)
        .values(deletions=documents.c.deletions + 1)
    )


class Changes(NamedTuple):
    """How often vectors of a document were deleted, and how often its metadata was changed."""

    deletions: int
    patches: int


def changes(conn: Connection, document_ids: Sequence[str]) -> dict[str, Changes]:
    """Return how often each document was changed in the vector store, by document id.

    A worker reads these numbers before it writes to the vector store (they are in `Generation`), and again
    under the document's lock. If no deletion ended in between, the vectors that it wrote are there. If the
    metadata was not changed in between, the rows have the metadata of now.
    """
    found = _CHANGES.run(conn, [(document_id,) for document_id in sorted(set(document_ids))])
    return {document_id: Changes(deletions, patches) for document_id, deletions, patches in found}


def awaiting_cleanup(conn: Connection, limit: int) -> list[tuple[str, str]]:
    """Return up to `limit` documents that wait for a cleanup, as pairs (tenant, document id)."""
    query = select(documents.c.tenant, documents.c.document_id).where(documents.c.cleanup > 0)
    return [(row.tenant, row.document_id) for row in conn.execute(query.limit(limit))]


def asking_for_cleanup(conn: Connection, document_ids: Sequence[str]) -> set[str]:
    """Return which of these documents wait for a cleanup."""
    query = select(documents.c.document_id).where(
        documents.c.document_id.in_(document_ids), documents.c.cleanup > 0
    )
    return set(conn.execute(query).scalars())


def drop(conn: Connection, document_id: str) -> None:
    """Drop the document, its generations, their text, and the rows that name it.

    Its chunks, jobs and vectors must be gone.
    """
    document_lock.require(conn, document_id)
    mine = select(generations.c.generation_id).where(generations.c.document_id == document_id)
    conn.execute(delete(segment_table).where(segment_table.c.generation_id.in_(mine)))
    for table in _NAMING:
        conn.execute(delete(table).where(table.c.document_id == document_id))
    conn.execute(delete(generations).where(generations.c.document_id == document_id))
    conn.execute(delete(documents).where(documents.c.document_id == document_id))


# What was asked of models about the document, and which of its passages they found.
_NAMING = (switch_questions, experiment_questions, experiment_answers, experiment_hits, impression_hits)

_COUNT_PATCHES = (
    update(documents)
    .where(documents.c.document_id.in_(bindparam("ids", expanding=True)))
    .values(patches=documents.c.patches + 1)
)

_CHANGES = RowsStatement(
    "WITH given(document_id) AS (VALUES {rows}) "
    "SELECT documents.document_id, documents.deletions, documents.patches "
    "FROM given JOIN documents ON documents.document_id = given.document_id"
)

_REQUEST_CLEANUP = (
    update(documents)
    .where(documents.c.document_id.in_(bindparam("ids", expanding=True)))
    .values(
        cleanup=documents.c.cleanup + 1,
        # What leaves something to clean up may be a change that readers see: of the metadata, of passages.
        view_marks=documents.c.view_marks + literal_column(ONE_IF_THERE_ARE_VIEWS),
    )
)
