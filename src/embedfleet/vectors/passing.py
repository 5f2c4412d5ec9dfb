"""The base of stores that pass every call on to another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.vectors.port import (
    CollectionKey,
    CommitsWithRecords,
    Hit,
    Metadata,
    StoreDebt,
    VectorRows,
    VectorStore,
)


class PassingStore(VectorStore):
    """Passes every call on to `_store`, also those for which the port has an answer of its own.

    A subclass overrides what it does otherwise. It may put another store into `_store` at any time.
    """

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def name_in_store(self, collection: CollectionKey) -> str:
        return self._store.name_in_store(collection)

    async def ensure_collection(self, collection: CollectionKey) -> None:
        await self._store.ensure_collection(collection)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await self._store.upsert(collection, rows)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        await self._store.update_metadata(collection, ids, metadatas)

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        return await self._store.vectors(collection, ids)

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        return await self._store.ids_with(collection, key, values)

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        await self._store.delete(collection, ids)

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        await self._store.forget_deleted(*collections)

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        return await self._store.query(collection, vector, limit=limit)

    def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        return self._store.scan(collection, page=page)

    async def drop_collection(self, collection: CollectionKey) -> None:
        await self._store.drop_collection(collection)

    async def count(self, collection: CollectionKey) -> int:
        return await self._store.count(collection)

    def with_records(self) -> CommitsWithRecords | None:
        return self._store.with_records()

    async def debt(self) -> StoreDebt:
        return await self._store.debt()

    async def tend(self) -> None:
        await self._store.tend()

    def not_forgotten(self) -> str | None:
        return self._store.not_forgotten()

    def expect_mark(self) -> None:
        self._store.expect_mark()

    async def mark(self) -> str | None:
        return await self._store.mark()

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return await self._store.claim_mark(mark, replacing=replacing)

    @property
    def part_id(self) -> str | None:
        return self._store.part_id

    async def follow(self) -> None:
        await self._store.follow()

    async def close(self) -> None:
        await self._store.close()
