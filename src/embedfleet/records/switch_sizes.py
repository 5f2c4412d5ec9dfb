"""How much a switch to another model would embed and store, before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from embedfleet.records import segments, switch_gaps
from embedfleet.records.collections import Collection
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, documents, embeddings, generations
from embedfleet.sql.tables import segments as segment_rows


@dataclass(frozen=True, slots=True)
class SwitchSizes:
    """`documents` are live in the space that is left, and `there` of them have no gap in the new one
    (`switch_gaps`).

    `chunks`, `tokens` (of the old model) and `text_bytes` (compressed, in SQL) are of the others.
    `cached_vectors`: vectors of the new space in the embedding cache.
    """

    documents: int
    there: int
    chunks: int
    tokens: int
    text_bytes: int
    cached_vectors: int


def sizes(conn: Connection, source: Collection, target: Collection | None) -> SwitchSizes:
    """Count what a switch from the one collection to the other would do; `target` is None if it is not yet.

    The cost grows with the chunks of the tenant.
    """
    live = _live(source)
    total = conn.execute(select(func.count()).select_from(live.subquery())).scalar_one()
    lacking = (live if target is None else live.where(switch_gaps.is_gap(generations, target))).subquery()
    lacks = conn.execute(select(func.count()).select_from(lacking)).scalar_one()
    mine = select(lacking.c.generation_id)
    made = select(func.count(), func.coalesce(func.sum(chunks.c.tokens), 0)).where(
        chunks.c.generation_id.in_(mine)
    )
    number, tokens = conn.execute(made).one()
    places = func.coalesce(func.length(segment_rows.c.places), 0)
    texts = select(func.coalesce(func.sum(func.length(segment_rows.c.body) + places), 0)).where(
        segment_rows.c.generation_id.in_(mine)
    )
    return SwitchSizes(
        documents=int(total),
        there=int(total) - int(lacks),
        chunks=int(number),
        tokens=int(tokens),
        text_bytes=int(conn.execute(texts).scalar_one()),
        cached_vectors=0 if target is None else _cached(conn, target),
    )


def some_texts(conn: Connection, source: Collection, most: int) -> list[str]:
    """Return the beginnings of up to `most` documents that are live in the collection."""
    rows = conn.execute(_live(source).order_by(generations.c.generation_id).limit(most))
    found: Mapping[int, segments.Segment] = segments.first_of(conn, [row.generation_id for row in rows])
    return [one.text for one in found.values()]


def _live(source: Collection) -> Select[Any]:
    return (
        select(generations.c.generation_id)
        .join(documents, documents.c.document_id == generations.c.document_id)
        .where(
            documents.c.tenant == source.tenant,
            documents.c.deleted_at.is_(None),
            generations.c.collection_id == source.collection_id,
            generations.c.state == GenerationState.LIVE,
        )
    )


def _cached(conn: Connection, target: Collection) -> int:
    mine = select(func.count()).where(embeddings.c.collection_id == target.collection_id)
    return int(conn.execute(mine).scalar_one())
