"""Measures how long the calls of a vector store take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Histogram
from sqlalchemy import Connection

from embedfleet.metrics.series import timed
from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import (
    CollectionKey,
    CommitsWithRecords,
    Hit,
    Metadata,
    RowsToCommit,
    VectorRows,
    VectorStore,
)


class MeteredVectorStore(PassingStore):
    """Passes every call on to another store, and measures it.

    A scan is not measured, because its reader decides how long it takes; a mark is read only at the start,
    and a debt is only a number.
    """

    def __init__(self, store: VectorStore, seconds: Histogram) -> None:
        """`seconds` is labelled with the operation, which is the method's name."""
        super().__init__(store)
        self._seconds = seconds

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

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        with timed(self._seconds, "forget_deleted"):
            await self._store.forget_deleted(*collections)

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        with timed(self._seconds, "query"):
            return await self._store.query(collection, vector, limit=limit)

    async def drop_collection(self, collection: CollectionKey) -> None:
        with timed(self._seconds, "drop_collection"):
            await self._store.drop_collection(collection)

    async def count(self, collection: CollectionKey) -> int:
        with timed(self._seconds, "count"):
            return await self._store.count(collection)

    def with_records(self) -> CommitsWithRecords | None:
        inner = self._store.with_records()
        return None if inner is None else _MeteredWithRecords(inner, self._seconds)

    async def tend(self) -> None:
        with timed(self._seconds, "tend"):
            await self._store.tend()


@dataclass(frozen=True, slots=True)
class _MeteredWithRecords(CommitsWithRecords):
    inner: CommitsWithRecords
    seconds: Histogram

    async def prepare(self, collection: CollectionKey, rows: VectorRows) -> RowsToCommit:
        return _MeteredRows(await self.inner.prepare(collection, rows), self.seconds)


@dataclass(frozen=True, slots=True)
class _MeteredRows(RowsToCommit):
    inner: RowsToCommit
    seconds: Histogram

    @property
    def refused(self) -> Mapping[str, str]:
        return self.inner.refused

    def write(self, transaction: Connection, wanted: Set[str]) -> tuple[list[str], NDArray[np.float32]]:
        with timed(self.seconds, "upsert"):
            return self.inner.write(transaction, wanted)
