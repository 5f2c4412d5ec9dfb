"""Reads from SQL what a view must hold of documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from embedfleet.records import chunks, collections, segments
from embedfleet.records import generations as generation_records
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.collections import Collection
from embedfleet.records.generations import Generation
from embedfleet.sql.states import GenerationState
from embedfleet.vectors.port import Metadata
from embedfleet.views.layout import CHUNK, DOCUMENT, Passage
from embedfleet.views.view import View


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """A row that the view must hold. Its vector is that of the chunk in the main store."""

    row_id: str
    chunk: ChunkRow
    generation: Generation
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Expected:
    """Which rows the view must hold: their ids, and the media ids of the documents that it shows."""

    row_ids: Set[str]
    media_ids: Set[str]

    @classmethod
    def of(cls, rows: Iterable[ExpectedRow]) -> Expected:
        known = [(row.row_id, row.generation.media_id) for row in rows]
        return cls({row_id for row_id, _ in known}, {media_id for _, media_id in known})

    def forbids(self, view: View, row_id: str, labels: Mapping[str, Any]) -> bool:
        """Whether the view must not hold this row. Rows of other owners are allowed."""
        if row_id in self.row_ids:
            return False
        return labels.get(view.layout.document_key) in self.media_ids or view.layout.is_ours(labels)


def present_collection(conn: Connection, tenant: str, model: str) -> Collection | None:
    """Return the tenant's collection in the main store whose vectors the view shows; None if there is none.

    The model may have had other spaces before. A view shows the newest one, as searches do.
    """
    of_model = [one for one in collections.of_tenant(conn, tenant) if one.model == model]
    return of_model[-1] if of_model else None


def rows_of(
    conn: Connection, view: View, collection: Collection, document_ids: Sequence[str]
) -> list[ExpectedRow]:
    """Return all rows that the view must hold of these documents, which belong to one tenant.

    A document has none if it is gone, not live yet, or live with vectors of another collection. A chunk has
    none if it was given up.
    """
    live = [
        one
        for generations in generation_records.generations_of_many(conn, document_ids).values()
        for one in generations
        if one.state is GenerationState.LIVE and one.collection == collection
    ]
    spans = [(one.generation_id, 0, chunks.ALL_CHUNKS) for one in live]
    found: list[ExpectedRow] = []
    for generation, rows in zip(live, chunks.between(conn, spans), strict=True):
        stored = chunks.ids_stored(conn, [row.chunk_id for row in rows])
        found += [_expected(view, generation, row, len(rows)) for row in rows if row.chunk_id in stored]
    return found


def texts_of(conn: Connection, rows: Sequence[ExpectedRow]) -> list[str | None]:
    """Return the text of each row's chunk, in order; None if SQL no longer has the text of its document."""
    wanted = [(row.generation.generation_id, [(row.chunk.start, row.chunk.end)]) for row in rows]
    return [None if texts is None else texts[0] for texts in segments.texts_of(conn, wanted)]


def _expected(view: View, generation: Generation, row: ChunkRow, total: int) -> ExpectedRow:
    passage = Passage(
        media_id=generation.media_id,
        chunk_id=row.chunk_id,
        chunk_index=row.chunk_index,
        total_chunks=total,
        start=row.start,
        end=row.end,
        heading=row.heading,
        title=generation.recipe.title,
        source=generation.source,
        content_type=generation.recipe.content_type,
        page=row.page,
        start_seconds=row.start_seconds,
        end_seconds=row.end_seconds,
        # Chroma takes no empty list.
        metadata={name: value for name, value in generation.metadata.items() if value != []},
    )
    metadata = {
        **view.layout.metadata(passage, view.reader),
        DOCUMENT: generation.document_id,
        CHUNK: row.chunk_id,
    }
    return ExpectedRow(view.layout.row_id(passage), row, generation, metadata)
