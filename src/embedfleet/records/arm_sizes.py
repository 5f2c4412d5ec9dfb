"""How much of a tenant's documents an arm has, and how large its vectors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, select

from embedfleet.records.arms import Arm, spaces_of
from embedfleet.records.collections import Collection
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import chunks, generations

_BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class SpaceSize:
    """What readers see in a space."""

    documents: int
    chunks: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ArmSize:
    """What readers of an arm see in each of its spaces."""

    spaces: Mapping[Collection, SpaceSize]

    @property
    def total(self) -> SpaceSize:
        found = self.spaces.values()
        return SpaceSize(
            sum(one.documents for one in found),
            sum(one.chunks for one in found),
            sum(one.tokens for one in found),
        )

    @property
    def bytes_per_vector(self) -> int:
        """The bytes of one vector, weighted by the chunks of the spaces and rounded.

        Without chunks, each space counts as much.
        """
        weights = {one: size.chunks for one, size in self.spaces.items()}
        if not any(weights.values()):
            weights = dict.fromkeys(weights, 1)
        numbers = sum(one.dim * weight for one, weight in weights.items())
        return round(_BYTES_PER_NUMBER * numbers / max(1, sum(weights.values())))


def size_of(conn: Connection, arm: Arm) -> ArmSize:
    """Count what readers of the arm see. The cost grows with its chunks."""
    found = spaces_of(conn, arm)
    return ArmSize({one: _size(conn, one, found.but_in.get(one, ())) for one in found.collections})


def _size(conn: Connection, collection: Collection, but_in: Sequence[Collection]) -> SpaceSize:
    there = generations.alias("there")
    elsewhere = exists().where(
        there.c.document_id == generations.c.document_id,
        there.c.collection_id.in_([one.collection_id for one in but_in]),
        there.c.state == GenerationState.LIVE,
    )
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
            *([~elsewhere] if but_in else []),
        )
    )
    documents, number, tokens = conn.execute(query).one()
    return SpaceSize(int(documents), int(number), int(tokens))
