"""A vector store that keeps nothing. Benchmarks measure the rest of the pipeline with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.vectors.port import CollectionKey, Hit, Metadata, VectorRows, VectorStore


class NullVectorStore(VectorStore):
    """Accepts every write and keeps nothing. It is always empty, never fails and holds no resources."""

    def name_in_store(self, collection: CollectionKey) -> str:
        return f"{collection.tenant} {collection.space}"

    async def ensure_collection(self, collection: CollectionKey) -> None:
        return None

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        return None

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        return None

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        return [], np.empty((0, 0), dtype=np.float32)

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        return {}

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        return None

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        return None

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        return []

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        return
        yield  # makes this a generator

    async def drop_collection(self, collection: CollectionKey) -> None:
        return None

    async def count(self, collection: CollectionKey) -> int:
        return 0

    async def mark(self) -> str | None:
        return None

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return mark

    async def close(self) -> None:
        return None
