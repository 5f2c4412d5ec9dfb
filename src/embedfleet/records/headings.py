"""The titles and headings of the documents that readers see: what known items are drawn from."""

from __future__ import annotations

from sqlalchemy import Connection, select

from embedfleet.evaluation.known_items import Heading
from embedfleet.records.arms import Arm, describes
from embedfleet.records.chunks import HEADING_SEPARATOR
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, documents, generations


def of_arm(conn: Connection, tenant: str, arm: Arm, *, most_chunks: int) -> list[Heading]:
    """Return the headings of up to `most_chunks` chunks, document by document, in the order of the text.

    They are those of one space, or, of the route, those that describe the documents.

    The documents come in the order of their ids, which are hashes: so those that come first are a sample.
    """
    query = (
        select(
            documents.c.media_id,
            generations.c.title,
            generations.c.content_type,
            chunks.c.heading,
            chunks.c.start,
            chunks.c.end,
        )
        .join(generations, generations.c.document_id == documents.c.document_id)
        .join(chunks, chunks.c.generation_id == generations.c.generation_id)
        .where(
            documents.c.tenant == tenant,
            describes(arm),
            generations.c.state == GenerationState.LIVE,
        )
        .order_by(documents.c.document_id, chunks.c.chunk_index)
        .limit(most_chunks)
    )
    return [
        Heading(
            document=row.media_id,
            title=row.title or "",
            heading=row.heading.rpartition(HEADING_SEPARATOR)[2],
            start=row.start,
            end=row.end,
            content_type=row.content_type,
        )
        for row in conn.execute(query)
    ]
