"""Any vector store, with the time of its calls measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from embedfleet.metrics.series import timed
from embedfleet.vectors.port import Hit, Metadata, VectorRows, VectorStore


class MeteredVectorStore(VectorStore):
    """Hands every call on."""

    def __init__(self, store: VectorStore, seconds: Histogram) -> None:
        """`seconds` is labelled by operation."""
        self._store = store
        self._seconds = seconds

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        with timed(self._seconds, "ensure_collection"):
            await self._store.ensure_collection(name, space=space, dim=dim)

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        with timed(self._seconds, "upsert"):
            await self._store.upsert(collection, rows)

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        with timed(self._seconds, "update_metadata"):
            await self._store.update_metadata(collection, ids, metadatas)

    async def vectors(self, collection: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        with timed(self._seconds, "vectors"):
            return await self._store.vectors(collection, ids)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        with timed(self._seconds, "delete"):
            await self._store.delete(collection, ids)

    async def query(
        self, collection: str, vector: NDArray[np.float32], *, space: str, limit: int
    ) -> list[Hit]:
        with timed(self._seconds, "query"):
            return await self._store.query(collection, vector, space=space, limit=limit)

    def scan(
        self, collection: str, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        return self._store.scan(collection, page=page)

    async def drop_collection(self, name: str) -> None:
        with timed(self._seconds, "drop_collection"):
            await self._store.drop_collection(name)

    async def count(self, collection: str) -> int:
        with timed(self._seconds, "count"):
            return await self._store.count(collection)

    async def close(self) -> None:
        await self._store.close()
