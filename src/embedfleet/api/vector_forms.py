"""The stored vectors of chunks, in the form that a request asks for."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import numpy as np
from fastapi import Query
from numpy.typing import NDArray
from pydantic import Field

from embedfleet.api.parts import ApiParts
from embedfleet.errors import ConfigError
from embedfleet.queue_schemas import ChunkInfo
from embedfleet.vectors.port import CollectionKey, VectorStore


class VectorForm(StrEnum):
    """`base64`: little-endian float32, a quarter of the size of `float`."""

    NONE = "none"
    FLOAT = "float"
    BASE64 = "base64"


Vectors = Annotated[VectorForm, Query(description="Whether vectors come too, and in which form.")]


class ChunkWithVector(ChunkInfo):
    """A chunk, with its vector if that was asked for."""

    vector: list[float] | str | None = Field(
        default=None, description="float32 of length 1, as asked for; null: not asked for, or not stored."
    )


def store_for(parts: ApiParts, form: VectorForm) -> VectorStore | None:
    """Return the store that has the vectors; None if none are asked for.

    Raises ConfigError if another process has the store to itself.
    """
    if form is VectorForm.NONE:
        return None
    if parts.store is None:
        raise ConfigError(
            "vectors: cannot be read here, as another process owns the vector store: ask without vectors, or "
            "set vector_store.url"
        )
    return parts.store


async def vectors_of(
    store: VectorStore | None, collection: CollectionKey | None, chunks: Sequence[ChunkInfo], form: VectorForm
) -> Mapping[str, list[float] | str]:
    """Return the vectors of these chunks that are stored, by chunk id; none without a store."""
    if store is None or collection is None or not chunks:
        return {}
    known, rows = await store.vectors(collection, [chunk.chunk_id for chunk in chunks])
    return dict(zip(known, _formed(rows, form), strict=True))


def _formed(rows: NDArray[np.float32], form: VectorForm) -> Sequence[list[float] | str]:
    """Return the vectors float32 (n, dim) in the form that was asked for."""
    if form is VectorForm.BASE64:
        return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in rows]
    return [[float(value) for value in row] for row in rows]
