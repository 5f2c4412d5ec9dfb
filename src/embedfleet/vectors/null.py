"""A vector store that forgets: the rest of the pipeline, measured without Chroma."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.vectors.port import Hit, Metadata, VectorRows, VectorStore


class NullVectorStore(VectorStore):
    """Accepts every write and keeps nothing: always empty, never fails, holds no resources."""

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        return None

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        return None

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        return None

    async def vectors(self, collection: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        return [], np.empty((0, 0), dtype=np.float32)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        return None

    async def query(
        self, collection: str, vector: NDArray[np.float32], *, space: str, limit: int
    ) -> list[Hit]:
        return []

    async def scan(
        self, collection: str, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        return
        yield  # makes this a generator

    async def drop_collection(self, name: str) -> None:
        return None

    async def count(self, collection: str) -> int:
        return 0

    async def close(self) -> None:
        return None
