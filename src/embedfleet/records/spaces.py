"""How much of a tenant's documents is in one of its spaces."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from embedfleet.records.collections import Collection
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, generations


@dataclass(frozen=True, slots=True)
class SpaceSize:
    """What readers see in a space."""

    documents: int
    chunks: int
    tokens: int


def size_of(conn: Connection, collection: Collection) -> SpaceSize:
    """Count what readers see in the collection. The cost grows with its chunks."""
    live = generations.join(chunks, chunks.c.generation_id == generations.c.generation_id, isouter=True)
    query = (
        select(
            func.count(generations.c.generation_id.distinct()),
            func.count(chunks.c.chunk_index),
            func.coalesce(func.sum(chunks.c.tokens), 0),
        )
        .select_from(live)
        .where(
            generations.c.collection_id == collection.collection_id,
            generations.c.state == GenerationState.LIVE,
        )
    )
    documents, number, tokens = conn.execute(query).one()
    return SpaceSize(int(documents), int(number), int(tokens))
