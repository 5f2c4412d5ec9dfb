"""What SQL says the vector store holds, and what it may hold besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from embedfleet.records import chunks as chunk_records
from embedfleet.records import collections, documents, jobs, segments
from embedfleet.records.chunks import ChunkRow, StoredVector
from embedfleet.records.collections import Collection
from embedfleet.records.documents import Generation
from embedfleet.records.metadata import chunk_metadata
from embedfleet.sql.paging import chunk_id_pages
from embedfleet.sql.tables import (
    GenerationState,
    VectorState,
    chunks,
    generations,
    vectors,
)
from embedfleet.sql.tables import documents as document_table
from embedfleet.vectors.port import Metadata

_KEPT = (GenerationState.BUILDING, GenerationState.LIVE)


@dataclass(frozen=True, slots=True)
class Target:
    """All that a row of the vector store is made from, its vector excepted."""

    chunk_id: str
    document_id: str
    generation: Generation
    text: str
    metadata: Metadata


def collections_to_check(conn: Connection, tenant: str | None) -> list[Collection]:
    """A tenant's, or all, oldest first."""
    return collections.of_all_tenants(conn) if tenant is None else collections.of_tenant(conn, tenant)


def document_ids(conn: Connection, tenant: str, after: str, limit: int) -> list[str]:
    """The tenant's documents in pages, by id."""
    query = (
        select(document_table.c.document_id)
        .where(document_table.c.tenant == tenant, document_table.c.document_id > after)
        .order_by(document_table.c.document_id)
        .limit(limit)
    )
    return list(conn.execute(query).scalars())


def stored_by_document(conn: Connection, collection_id: int, page: Sequence[str]) -> dict[str, bytes | None]:
    """The checksum of every id that the store should hold of these documents."""
    query = select(vectors.c.chunk_id, vectors.c.checksum).where(
        vectors.c.document_id.in_(page),
        vectors.c.collection_id == collection_id,
        vectors.c.state == VectorState.STORED,
    )
    return {row.chunk_id.hex(): row.checksum for row in conn.execute(query)}


def explained(conn: Connection, chunk_ids: Sequence[str]) -> set[str]:
    """Those of these ids that may be in the store: SQL has a record of the vector, in whatever state; a
    version that is built or read has the chunk (a write that is not recorded yet); or its document is still
    being cleaned up after."""
    found: set[str] = set()
    referred = (
        select(chunks.c.chunk_id)
        .join(generations, generations.c.generation_id == chunks.c.generation_id)
        .join(document_table, document_table.c.document_id == generations.c.document_id)
        .where(or_(generations.c.state.in_(_KEPT), document_table.c.cleanup > 0))
    )
    for ids in chunk_id_pages(chunk_ids):
        recorded = select(vectors.c.chunk_id).where(vectors.c.chunk_id.in_(ids))
        for query in (recorded, referred.where(chunks.c.chunk_id.in_(ids))):
            found.update(value.hex() for value in conn.execute(query).scalars())
    return found


def targets(conn: Connection, chunk_ids: Sequence[str]) -> list[Target]:
    """What to write for these ids. Left out are those that need not be in the store any more.

    A row describes the version that SQL says it does, or, when that is gone, the one that readers see.
    """
    wanted = chunk_records.stored_vectors(conn, chunk_ids)
    chosen: dict[int, list[ChunkRow]] = {}
    for chunk_id, row in _chunk_rows(conn, wanted).items():
        chosen.setdefault(row.generation_id, []).append(
            ChunkRow(row.chunk_index, chunk_id, row.start, row.end, row.tokens, row.heading)
        )
    kept = documents.generations_by_id(conn, sorted(chosen))
    made: list[Target] = []
    for generation_id, rows in chosen.items():
        if generation_id in kept:
            made += _targets_of(conn, kept[generation_id], sorted(rows, key=lambda row: row.start))
    return made


def _chunk_rows(conn: Connection, wanted: dict[str, StoredVector]) -> dict[str, Row[Any]]:
    query = select(chunks, generations.c.state).join(
        generations, generations.c.generation_id == chunks.c.generation_id
    )
    best: dict[str, Row[Any]] = {}
    for ids in chunk_id_pages(list(wanted)):
        for row in conn.execute(query.where(chunks.c.chunk_id.in_(ids))):
            chunk_id = row.chunk_id.hex()
            preference = _preference(row, wanted[chunk_id])
            if chunk_id not in best or preference > _preference(best[chunk_id], wanted[chunk_id]):
                best[chunk_id] = row
    return best


def _preference(row: Row[Any], record: StoredVector) -> tuple[bool, bool, int]:
    described = row.generation_id == record.described_by
    return described, row.state == GenerationState.LIVE, row.generation_id


def _targets_of(conn: Connection, generation: Generation, rows: Sequence[ChunkRow]) -> Iterator[Target]:
    job = jobs.newest_of_generation(conn, generation.generation_id)
    for row in rows:
        pieces = segments.between(conn, generation.generation_id, row.start, row.end)
        if pieces:
            (text,) = segments.slice_text(pieces, [(row.start, row.end)])
            metadata = chunk_metadata(generation, "" if job is None else job.job_id, row)
            yield Target(row.chunk_id, generation.document_id, generation, text, metadata)
