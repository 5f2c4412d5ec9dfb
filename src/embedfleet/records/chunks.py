"""The chunks of a generation, and the vectors of them that the vector store holds.

Three rules ensure that a vector that a generation needs is not deleted:

- A chunk's row is written before its vector. A vector is marked for deletion only if no building or live
  generation has a row with its id. One unit looks and marks, under the document's lock.
- A marked id is not written to the vector store again until the deletion is finished.
- A write that began before the mark counts only if no deletion of the document's vectors has ended since
  (`document_cleanup.changes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, delete, select, update

from embedfleet.records import store_moves
from embedfleet.records.collections import Collection
from embedfleet.records.generations import Generation
from embedfleet.sql import document_lock
from embedfleet.sql.paging import chunk_id_pages, key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.sql_text import storable
from embedfleet.sql.states import GenerationState, VectorState
from embedfleet.sql.tables import chunks, collections, documents, generations, vectors
from embedfleet.sql.upsert import upsert

HEADING_SEPARATOR = " > "
# No generation has this id. A row that it describes gets its metadata from a cleanup.
_UNDESCRIBED = 0

WrittenIds = tuple[Generation, Sequence[str]]
"""The ids of vectors that were written to the vector store, with the generation that describes them."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk. `start` and `end` are character offsets in the document; `heading` is its heading path.

    `context` is embedded before its text, "" for nothing; `tokens` counts those of both. `unknown` counts its
    tokens that stand for text which the model does not know. `page` and the seconds say where it is in its
    source; None if the source has no pages, or is no recording.
    """

    chunk_index: int
    chunk_id: str
    start: int
    end: int
    tokens: int
    heading: str
    unknown: int = 0
    page: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    context: str = ""


def add(conn: Connection, made: Iterable[tuple[str, int, Sequence[ChunkRow]]]) -> None:
    """Write the chunk rows of several (document id, generation id), in one statement.

    Rows that an earlier delivery of a task wrote are left as they are.
    """
    rows = []
    for document_id, generation_id, chunk_rows in made:
        document_lock.require(conn, document_id)
        rows += [
            {
                "generation_id": generation_id,
                "chunk_index": row.chunk_index,
                "chunk_id": bytes.fromhex(row.chunk_id),
                "start": row.start,
                "end": row.end,
                "tokens": row.tokens,
                "heading": storable(row.heading),
                "unknown": row.unknown,
                "page": row.page,
                "start_seconds": row.start_seconds,
                "end_seconds": row.end_seconds,
                "context": row.context,
            }
            for row in chunk_rows
        ]
    if rows:
        conn.execute(_add(conn.dialect.name), rows)


ALL_CHUNKS = 2**31 - 1
"""As a number of chunks in `between`: all of a document. No document has more, and both databases hold it."""


def between(conn: Connection, spans: Sequence[tuple[int, int, int]]) -> list[list[ChunkRow]]:
    """Return the chunks of each span (generation id, first chunk, number of chunks), in order.

    A chunk that does not exist is left out.
    """
    given = [
        (place, generation_id, first, first + count)
        for place, (generation_id, first, count) in enumerate(spans)
    ]
    found: list[list[ChunkRow]] = [[] for _ in spans]
    rows: list[Any] = _BETWEEN.run(conn, given)
    for place, index, chunk_id, *rest in rows:
        found[place].append(ChunkRow(index, chunk_id.hex(), *rest))
    return found


def drop(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Drop the chunk rows of these generations. Their vectors must be marked for deletion before."""
    conn.execute(delete(chunks).where(chunks.c.generation_id.in_(generation_ids)))


# --- vectors ---


def ids_stored(conn: Connection, chunk_ids: Sequence[str]) -> set[str]:
    """Return which of these ids have a vector in the store that is not marked for deletion."""
    return _in_state(conn, chunk_ids, VectorState.STORED)


def ids_being_deleted(conn: Connection, chunk_ids: Sequence[str]) -> set[str]:
    """Return which of these ids are marked for deletion and must therefore not be written yet."""
    return _in_state(conn, chunk_ids, VectorState.DELETING)


@dataclass(frozen=True, slots=True)
class StoredVector:
    """The SQL row of a vector that the store should hold.

    Two reads of it are equal if the id was not written in between. `writes` counts the writes. A document
    that is deleted and submitted again counts from 1 again, so `document_created_at` is compared too.
    """

    document_id: str
    document_created_at: float
    described_by: int
    writes: int
    checksum: bytes | None


def stored_vectors(conn: Connection, chunk_ids: Sequence[str]) -> dict[str, StoredVector]:
    """Return the rows of these ids, by id. Ids that the store need not hold are left out."""
    query = (
        select(vectors, documents.c.created_at)
        .join(documents, documents.c.document_id == vectors.c.document_id)
        .where(vectors.c.state == VectorState.STORED)
    )
    found: dict[str, StoredVector] = {}
    for ids in chunk_id_pages(chunk_ids):
        for row in conn.execute(query.where(vectors.c.chunk_id.in_(ids))):
            found[row.chunk_id.hex()] = StoredVector(
                row.document_id, row.created_at, row.described_by, row.writes, row.checksum
            )
    return found


def record_stored(
    conn: Connection,
    written: Iterable[WrittenIds],
    checksums: Mapping[str, bytes],
    patched: Set[str] = frozenset(),
) -> None:
    """Record that the vector store holds these ids, with the metadata of their generations.

    Documents in `patched` got other metadata since the rows were made, so their rows count as undescribed.
    `checksums` are those of the vectors that were read back, by id. If an id has none, its checksum is
    unknown. An id that is marked for deletion keeps its mark, so it is deleted once more: the deletion may
    have come before or after this write.
    """
    _record(conn, written, checksums, VectorState.STORED, patched)


def record_for_deletion(
    conn: Connection, written: Iterable[WrittenIds], checksums: Mapping[str, bytes]
) -> None:
    """Record ids that were written for runs of jobs that have ended.

    An id without a row gets one that is marked for deletion, even if a generation refers to it: a deletion
    that was under way may have removed the vector before the write or after it. The task of that generation
    writes the vector again. An id with a row keeps its state.
    """
    _record(conn, written, checksums, VectorState.DELETING)


def set_checksum(conn: Connection, document_id: str, chunk_id: str, checksum: bytes) -> None:
    """Record the checksum of a vector without counting a write."""
    document_lock.require(conn, document_id)
    conn.execute(
        update(vectors).where(vectors.c.chunk_id == bytes.fromhex(chunk_id)).values(checksum=checksum)
    )


def _record(
    conn: Connection,
    written: Iterable[WrittenIds],
    checksums: Mapping[str, bytes],
    state_of_new: VectorState,
    patched: Set[str] = frozenset(),
) -> None:
    rows: list[dict[str, Any]] = []
    for generation, chunk_ids in written:
        document_lock.require(conn, generation.document_id)
        described_by = _UNDESCRIBED if generation.document_id in patched else generation.generation_id
        rows += (
            {
                "chunk_id": bytes.fromhex(chunk_id),
                "document_id": generation.document_id,
                "collection_id": generation.collection.collection_id,
                "described_by": described_by,
                "writes": 1,
                "state": state_of_new,
                "checksum": checksums.get(chunk_id),
            }
            for chunk_id in chunk_ids
        )
    if rows:
        conn.execute(_write(conn.dialect.name), rows)


def mark_unreferenced(conn: Connection, document_ids: Sequence[str]) -> None:
    """Mark for deletion the documents' vectors that no building or live generation refers to."""
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    for ids in key_pages(document_ids):
        conn.execute(_MARK_UNREFERENCED, {"ids": ids})


@dataclass(frozen=True, slots=True)
class MarkedVector:
    """A vector to delete. `writes` is the number of its writes at the time of the look."""

    chunk_id: str
    collection: Collection
    writes: int


def vectors_to_delete(conn: Connection, document_id: str) -> list[MarkedVector]:
    """Return the document's vectors that are marked for deletion."""
    query = (
        select(vectors.c.chunk_id, vectors.c.writes, collections)
        .join(collections, collections.c.collection_id == vectors.c.collection_id)
        .where(vectors.c.document_id == document_id, vectors.c.state == VectorState.DELETING)
    )
    return [
        MarkedVector(row.chunk_id.hex(), Collection.of_row(row), row.writes) for row in conn.execute(query)
    ]


def record_deleted(conn: Connection, document_id: str, gone: Sequence[MarkedVector]) -> None:
    """Drop the rows of deleted vectors. A vector that was written since the look keeps its mark."""
    document_lock.require(conn, document_id)
    if gone:
        conn.execute(
            delete(vectors).where(
                vectors.c.chunk_id == bindparam("id"),
                vectors.c.writes == bindparam("seen"),
                vectors.c.state == VectorState.DELETING,
            ),
            [{"id": bytes.fromhex(vector.chunk_id), "seen": vector.writes} for vector in gone],
        )


def described_by_others(conn: Connection, generation_id: int, limit: int) -> list[ChunkRow]:
    """Return chunks of the generation whose row in the vector store has another generation's metadata."""
    query = (
        select(chunks)
        .join(vectors, vectors.c.chunk_id == chunks.c.chunk_id)
        .where(
            chunks.c.generation_id == generation_id,
            vectors.c.described_by != generation_id,
            vectors.c.state == VectorState.STORED,
        )
        .order_by(chunks.c.chunk_index)
        .limit(limit)
    )
    return [chunk_row(row) for row in conn.execute(query)]


def leave_undescribed(conn: Connection, document_ids: Sequence[str], generation_ids: Sequence[int]) -> None:
    """Record that rows of these generations in the vector store have metadata of before."""
    for document_id in document_ids:
        document_lock.require(conn, document_id)
    for ids in key_pages(document_ids):
        conn.execute(_LEAVE_UNDESCRIBED, {"ids": ids, "generations": generation_ids})
    store_moves.copy_again(conn, document_ids)


def record_description(
    conn: Connection, document_id: str, generation_id: int, chunk_ids: Sequence[str]
) -> None:
    """Record that the rows of these ids in the vector store carry this generation's metadata."""
    document_lock.require(conn, document_id)
    for ids in chunk_id_pages(chunk_ids):
        conn.execute(update(vectors).where(vectors.c.chunk_id.in_(ids)).values(described_by=generation_id))


def _in_state(conn: Connection, chunk_ids: Sequence[str], state: VectorState) -> set[str]:
    given = [(bytes.fromhex(chunk_id),) for chunk_id in sorted(set(chunk_ids))]
    return {chunk_id.hex() for (chunk_id,) in _IN_STATE.run(conn, given, state=state)}


# Statements of the hot path are built once: SQLAlchemy takes longer to compose one than to run it.


@cache
def _add(dialect: str) -> Executable:
    return upsert(dialect, chunks).on_conflict_do_nothing()


@cache
def _write(dialect: str) -> Executable:
    """Build the statement that inserts a vector's row, or counts a write of the existing row.

    An existing row keeps its state.
    """
    statement = upsert(dialect, vectors)
    again = {
        "described_by": statement.excluded.described_by,
        "writes": vectors.c.writes + 1,
        "checksum": statement.excluded.checksum,
    }
    return statement.on_conflict_do_update(index_elements=["chunk_id"], set_=again)


# SQLite does a CROSS JOIN from left to right, so it looks each span up in the primary key.
_BETWEEN = RowsStatement(
    "WITH given(place, generation_id, first, past) AS (VALUES {rows}) "
    "SELECT given.place, chunks.chunk_index, chunks.chunk_id, chunks.start, "
    'chunks."end", chunks.tokens, chunks.heading, '
    "chunks.unknown, chunks.page, chunks.start_seconds, chunks.end_seconds, chunks.context "
    "FROM given CROSS JOIN chunks WHERE chunks.generation_id = given.generation_id "
    "AND chunks.chunk_index >= given.first AND chunks.chunk_index < given.past "
    "ORDER BY given.place, chunks.chunk_index"
)

_REFERENCED = (
    select(chunks.c.chunk_id)
    .join(generations, generations.c.generation_id == chunks.c.generation_id)
    .where(
        chunks.c.chunk_id == vectors.c.chunk_id,
        generations.c.state.in_([GenerationState.BUILDING, GenerationState.LIVE]),
    )
)

_MARK_UNREFERENCED = (
    update(vectors)
    .where(
        vectors.c.document_id.in_(bindparam("ids", expanding=True)),
        vectors.c.state == VectorState.STORED,
        # NOT EXISTS, because for NOT IN PostgreSQL would compare each vector with each chunk.
        ~_REFERENCED.exists(),
    )
    .values(state=VectorState.DELETING)
)

# By the document, which has an index; a change is of a few generations.
_LEAVE_UNDESCRIBED = (
    update(vectors)
    .where(
        vectors.c.document_id.in_(bindparam("ids", expanding=True)),
        vectors.c.described_by.in_(bindparam("generations", expanding=True)),
    )
    .values(described_by=_UNDESCRIBED)
)

_IN_STATE = RowsStatement(
    "WITH given(chunk_id) AS (VALUES {rows}) "
    "SELECT vectors.chunk_id FROM given JOIN vectors ON vectors.chunk_id = given.chunk_id "
    "WHERE vectors.state = {state}"
)


def chunk_row(row: Row[Any]) -> ChunkRow:
    """Build the chunk from a row that has the columns of `chunks`, and maybe others."""
    return ChunkRow(
        row.chunk_index,
        row.chunk_id.hex(),
        row.start,
        row.end,
        row.tokens,
        row.heading,
        row.unknown,
        row.page,
        row.start_seconds,
        row.end_seconds,
        row.context,
    )
