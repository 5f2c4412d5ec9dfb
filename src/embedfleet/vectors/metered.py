"""Measures how long the calls of a vector store take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram

from embedfleet.metrics.series import timed
from embedfleet.vectors.port import CollectionKey, Hit, Metadata, VectorRows, VectorStore


class MeteredVectorStore(VectorStore):
    """Passes every call on to another store, and measures it.

    A scan is not measured, because its reader decides how long it takes; a mark is read only at the start.
    """

    def __init__(self, store: VectorStore, seconds: Histogram) -> None:
        """`seconds` is labelled with the operation, which is the method's name."""
        self._store = store
        self._seconds = seconds

    def name_in_store(self, collection: CollectionKey) -> str:
        return self._store.name_in_store(collection)

    async def ensure_collection(self, collection: CollectionKey) -> None:
        with timed(self._seconds, "ensure_collection"):
            await self._store.ensure_collection(collection)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        with timed(self._seconds, "upsert"):
            await self._store.upsert(collection, rows)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        with timed(self._seconds, "update_metadata"):
            await self._store.update_metadata(collection, ids, metadatas)

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        with timed(self._seconds, "vectors"):
            return await self._store.vectors(collection, ids)

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        with timed(self._seconds, "ids_with"):
            return await self._store.ids_with(collection, key, values)

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        with timed(self._seconds, "delete"):
            await self._store.delete(collection, ids)

    async def forget_deleted(self, collection: CollectionKey) -> None:
        with timed(self._seconds, "forget_deleted"):
            await self._store.forget_deleted(collection)

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        with timed(self._seconds, "query"):
            return await self._store.query(collection, vector, limit=limit)

    def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        return self._store.scan(collection, page=page)

    async def drop_collection(self, collection: CollectionKey) -> None:
        with timed(self._seconds, "drop_collection"):
            await self._store.drop_collection(collection)

    async def count(self, collection: CollectionKey) -> int:
        with timed(self._seconds, "count"):
            return await self._store.count(collection)

    async def mark(self) -> str | None:
        return await self._store.mark()

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return await self._store.claim_mark(mark, replacing=replacing)

    async def close(self) -> None:
        await self._store.close()
