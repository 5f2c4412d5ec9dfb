"""The versions of documents that readers see, in pages, with their texts and chunks: for an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select

from embedfleet.records import chunks as chunk_records
from embedfleet.records import generations as generation_records
from embedfleet.records import segments
from embedfleet.records.chunks import ChunkRow, StoredVector
from embedfleet.records.generations import Generation
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, collections, documents, generations


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """A version that readers saw when it was read, and the number of its chunks."""

    generation: Generation
    chunks: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part of a version: spans of its text, and the chunks from `first` to before `past`."""

    version: LiveVersion
    spans: Sequence[tuple[int, int]]
    first: int
    past: int


@dataclass(frozen=True, slots=True)
class Content:
    """What SQL has of a part: the text of each span, the chunks, the text of each chunk.

    `stored` has the chunks whose vectors the store must hold, by id. A chunk that is not in it was given up.
    """

    wanted: Wanted
    texts: Sequence[str]
    chunks: Sequence[ChunkRow]
    chunk_texts: Sequence[str]
    stored: dict[str, StoredVector]


def tenants(conn: Connection, scope: Scope) -> list[str]:
    """Return the tenants within the scope that have or had documents, by name."""
    query = select(collections.c.tenant).distinct().where(scope.rows(collections.c.tenant))
    return list(conn.execute(query.order_by(collections.c.tenant)).scalars())


def page(conn: Connection, tenant: str, *, after: str, limit: int) -> list[LiveVersion]:
    """Return up to `limit` versions that the tenant's readers see, by media id, after that media id."""
    query = _LIVE.where(documents.c.tenant == tenant, documents.c.media_id > after)
    return _versions(conn, conn.execute(query.order_by(documents.c.media_id).limit(limit)).all())


def of_documents(conn: Connection, document_ids: Sequence[str]) -> list[LiveVersion]:
    """Return the versions of these documents that readers see. A document without one is left out."""
    found: list[LiveVersion] = []
    for ids in key_pages(document_ids):
        found += _versions(conn, conn.execute(_LIVE.where(documents.c.document_id.in_(ids))).all())
    return found


def count_without(conn: Connection, scope: Scope) -> int:
    """Count the documents within the scope that have no version that readers see."""
    query = select(func.count()).where(
        scope.rows(documents.c.tenant),
        documents.c.live_generation.is_(None),
        documents.c.deleted_at.is_(None),
    )
    return int(conn.execute(query).scalar_one())


def contents(conn: Connection, wanted: Sequence[Wanted]) -> list[Content | None]:
    """Return what each part has, in order; None if its version is no longer the one that readers see."""
    ids = sorted({part.version.generation.generation_id for part in wanted})
    kept = generation_records.generations_by_id(conn, ids)
    live = {id_ for id_, generation in kept.items() if generation.state is GenerationState.LIVE}
    spans = [(part.version.generation.generation_id, part.first, part.past - part.first) for part in wanted]
    rows = chunk_records.between(conn, spans)
    texts = segments.texts_of(
        conn,
        [
            (part.version.generation.generation_id, [*part.spans, *((row.start, row.end) for row in mine)])
            for part, mine in zip(wanted, rows, strict=True)
        ],
    )
    stored = chunk_records.stored_vectors(conn, [row.chunk_id for mine in rows for row in mine])
    return [
        _content(part, mine, text, stored) if part.version.generation.generation_id in live else None
        for part, mine, text in zip(wanted, rows, texts, strict=True)
    ]


def _content(
    part: Wanted, rows: Sequence[ChunkRow], texts: Sequence[str] | None, stored: dict[str, StoredVector]
) -> Content:
    if texts is None or len(rows) != part.past - part.first:
        # A live version keeps its text and its chunks.
        raise AssertionError(f"version {part.version.generation.generation_id} is live and not whole")
    mine = {row.chunk_id: stored[row.chunk_id] for row in rows if row.chunk_id in stored}
    return Content(part, texts[: len(part.spans)], rows, texts[len(part.spans) :], mine)


def _versions(conn: Connection, rows: Sequence[Row[Any]]) -> list[LiveVersion]:
    made = generation_records.generations_by_id(conn, [row.generation_id for row in rows])
    return [LiveVersion(made[row.generation_id], row.chunks or 0) for row in rows]


# Chunks are numbered without gaps. The greatest number is one look into the primary key; a count reads all.
_CHUNKS_MADE = (
    select(func.max(chunks.c.chunk_index) + 1)
    .where(chunks.c.generation_id == generations.c.generation_id)
    .scalar_subquery()
    .label("chunks")
)

_LIVE: Select[Any] = (
    select(generations.c.generation_id, _CHUNKS_MADE)
    .join(
        documents,
        and_(
            documents.c.document_id == generations.c.document_id,
            documents.c.live_generation == generations.c.number,
        ),
    )
    .where(documents.c.deleted_at.is_(None))
)
