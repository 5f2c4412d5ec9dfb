"""The passages of live documents, as searches look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from embedfleet import document_metadata
from embedfleet.document_filter import PassageFilter
from embedfleet.document_metadata import Metadata
from embedfleet.records.chunks import ChunkRow, chunk_row
from embedfleet.records.filters import passage_conditions
from embedfleet.sql.paging import chunk_id_pages
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, documents, generations

# A sample of passages is from the first chunks of this many documents.
_SAMPLED_DOCUMENTS = 256
_SAMPLED_OF_A_DOCUMENT = 64


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a live generation for a search result, still without its text."""

    chunk: ChunkRow
    generation_id: int
    media_id: str
    source: str | None
    written_metadata: str | None

    @property
    def metadata(self) -> Metadata:
        """The metadata of its document."""
        return document_metadata.read(self.written_metadata)


def live_passages(
    conn: Connection,
    tenant: str,
    chunk_ids: Sequence[str],
    wanted: PassageFilter,
    *,
    but_in: Sequence[int] = (),
) -> dict[str, Passage]:
    """Return the passages among these ids that readers of the tenant may see and the filter allows, by id.

    They are the chunks of the tenant's live generations. All other ids are left out. An id belongs to one
    space, so passages of one collection are never mixed with those of another. Documents that readers see in
    one of the collections `but_in` are left out.
    """
    # The tenant is compared as an expression, so that no index of it is used. SQLite has no statistics: it
    # would look through all documents of the tenant, and not for the few chunks.
    query = _live(select(chunks, documents.c.media_id, documents.c.source, generations.c.metadata)).where(
        documents.c.tenant.concat("") == tenant,
        *passage_conditions(wanted, conn.dialect.name),
        *_not_live_in(but_in),
    )
    found: dict[str, Passage] = {}
    for ids in chunk_id_pages(chunk_ids):
        for row in conn.execute(query.where(chunks.c.chunk_id.in_(ids))):
            chunk = chunk_row(row)
            found[chunk.chunk_id] = Passage(chunk, row.generation_id, row.media_id, row.source, row.metadata)
    return found


def allowed_ids(
    conn: Connection,
    tenant: str,
    collection_id: int,
    wanted: PassageFilter,
    limit: int | None = None,
    *,
    but_in: Sequence[int] = (),
) -> list[str]:
    """Return the ids of the live passages of a collection that the filter allows; with a limit, some of them.

    Documents that readers see in one of the collections `but_in` are left out. A passage that was given up
    has an id too, but no vector.
    """
    query = _live(select(chunks.c.chunk_id)).where(
        documents.c.tenant == tenant,
        generations.c.collection_id == collection_id,
        *passage_conditions(wanted, conn.dialect.name),
        *_not_live_in(but_in),
    )
    return [chunk_id.hex() for chunk_id in conn.execute(query.limit(limit)).scalars()]


def _not_live_in(collection_ids: Sequence[int]) -> list[ColumnElement[bool]]:
    """Restrict a query over documents to those that readers see in none of these collections."""
    if not collection_ids:
        return []
    there = generations.alias("there")
    live = select(there.c.generation_id).where(
        there.c.document_id == documents.c.document_id,
        there.c.collection_id.in_(list(collection_ids)),
        there.c.state == GenerationState.LIVE,
    )
    return [~live.exists()]


@dataclass(frozen=True, slots=True)
class SampledPassage:
    """A passage that stands for others of its collection: its id, and where its text is."""

    chunk_id: str
    generation_id: int
    start: int
    end: int


def sample(
    conn: Connection, tenant: str, collection_id: int, most: int, *, but_in: Sequence[int] = ()
) -> list[SampledPassage]:
    """Return up to `most` live passages of a collection. Which ones has nothing to do with their content.

    Documents that readers see in one of the collections `but_in` are left out.

    The ids of documents and chunks are hashes, so those that come first in their order are a sample. It is
    the same one until the documents change. The cost does not grow with the collection.
    """
    of_some_documents = (
        select(generations.c.generation_id)
        .join(documents, documents.c.document_id == generations.c.document_id)
        .where(
            documents.c.tenant == tenant,
            generations.c.collection_id == collection_id,
            generations.c.state == GenerationState.LIVE,
            *_not_live_in(but_in),
        )
        .order_by(generations.c.document_id)
        .limit(_SAMPLED_DOCUMENTS)
    )
    made = list(conn.execute(of_some_documents).scalars())
    query = (
        select(chunks.c.chunk_id, chunks.c.generation_id, chunks.c.start, chunks.c.end)
        .where(chunks.c.generation_id.in_(made), chunks.c.chunk_index < _SAMPLED_OF_A_DOCUMENT)
        .order_by(chunks.c.chunk_id)
    )
    return [
        SampledPassage(row.chunk_id.hex(), row.generation_id, row.start, row.end)
        for row in conn.execute(query.limit(most))
    ]


def _live(query: Select[Any]) -> Select[Any]:
    """Restrict a query over `chunks` to those of live generations, with their documents."""
    return query.join(
        generations,
        and_(
            generations.c.generation_id == chunks.c.generation_id,
            generations.c.state == GenerationState.LIVE,
        ),
    ).join(documents, documents.c.document_id == generations.c.document_id)
