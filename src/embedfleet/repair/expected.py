"""Reads from SQL which rows the vector store must hold, and which rows it may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from embedfleet.records import chunks as chunk_records
from embedfleet.records import generations as generation_records
from embedfleet.records import jobs, segments
from embedfleet.records.chunks import ChunkRow, StoredVector
from embedfleet.records.generations import Generation
from embedfleet.records.metadata import chunk_metadata
from embedfleet.sql.paging import chunk_id_pages
from embedfleet.sql.states import GenerationState, VectorState
from embedfleet.sql.tables import chunks, generations, vectors
from embedfleet.sql.tables import documents as document_table
from embedfleet.vectors.port import Metadata

_STATES_WITH_CHUNKS_IN_USE = (GenerationState.BUILDING, GenerationState.LIVE)


@dataclass(frozen=True, slots=True)
class Target:
    """What a row of the vector store should contain, except for its vector.

    `embedded` is the text of which the vector is: the context of the chunk, and its text.
    """

    chunk_id: str
    document_id: str
    generation: Generation
    text: str
    embedded: str
    metadata: Metadata


def stored_checksums(
    conn: Connection, collection_id: int, document_ids: Sequence[str]
) -> dict[str, bytes | None]:
    """By chunk id: the checksum of every row that the store must hold for these documents."""
    query = select(vectors.c.chunk_id, vectors.c.checksum).where(
        vectors.c.document_id.in_(document_ids),
        vectors.c.collection_id == collection_id,
        vectors.c.state == VectorState.STORED,
    )
    return {row.chunk_id.hex(): row.checksum for row in conn.execute(query)}


def allowed_ids(conn: Connection, chunk_ids: Sequence[str]) -> set[str]:
    """The subset of these ids that the store may hold.

    A row may be in the store if SQL has a record of the vector in any state, if a building or live
    generation has the chunk (a worker has written the row and not yet recorded it), or if its document
    still awaits cleanup.
    """
    found: set[str] = set()
    in_use = (
        select(chunks.c.chunk_id)
        .join(generations, generations.c.generation_id == chunks.c.generation_id)
        .join(document_table, document_table.c.document_id == generations.c.document_id)
        .where(or_(generations.c.state.in_(_STATES_WITH_CHUNKS_IN_USE), document_table.c.cleanup > 0))
    )
    for ids in chunk_id_pages(chunk_ids):
        recorded = select(vectors.c.chunk_id).where(vectors.c.chunk_id.in_(ids))
        for query in (recorded, in_use.where(chunks.c.chunk_id.in_(ids))):
            found.update(value.hex() for value in conn.execute(query).scalars())
    return found


def targets(conn: Connection, chunk_ids: Sequence[str]) -> list[Target]:
    """What to write for these ids; ids that the store need not hold any more are left out.

    A row's metadata describe the generation that SQL names for it, or the live one if that one is gone.
    """
    wanted = chunk_records.stored_vectors(conn, chunk_ids)
    chosen: dict[int, list[ChunkRow]] = {}
    for row in _chunk_rows(conn, wanted).values():
        chosen.setdefault(row.generation_id, []).append(chunk_records.chunk_row(row))
    kept = generation_records.generations_by_id(conn, sorted(chosen))
    result: list[Target] = []
    for generation_id, rows in chosen.items():
        if generation_id in kept:
            result += _targets_of(conn, kept[generation_id], sorted(rows, key=lambda row: row.start))
    return result


def _chunk_rows(conn: Connection, wanted: dict[str, StoredVector]) -> dict[str, Row[Any]]:
    """By chunk id: the chunk's row in the generation that describes it best."""
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
    """The greatest one wins: the recorded generation, then the live one, then the newest."""
    is_recorded = row.generation_id == record.described_by
    return is_recorded, row.state == GenerationState.LIVE, row.generation_id


def _targets_of(conn: Connection, generation: Generation, rows: Sequence[ChunkRow]) -> Iterator[Target]:
    job = jobs.newest_of_generations(conn, [generation.generation_id]).get(generation.generation_id)
    texts_of = segments.texts_of(conn, [(generation.generation_id, [(row.start, row.end)]) for row in rows])
    for row, texts in zip(rows, texts_of, strict=True):
        if texts is not None:
            metadata = chunk_metadata(generation, "" if job is None else job.job_id, row)
            embedded = row.context + texts[0]
            yield Target(row.chunk_id, generation.document_id, generation, texts[0], embedded, metadata)
