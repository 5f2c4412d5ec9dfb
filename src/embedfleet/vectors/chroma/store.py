"""The vector store port over Chroma, in a child process or on a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedfleet.paging import pages
from embedfleet.vectors.chroma.layout import collection_name
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.port import CollectionKey, Hit, Metadata, VectorRows, VectorStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ChromaStore(VectorStore, ABC):
    """The base class of both stores. Most methods run one operation of `ChromaCollections`."""

    @abstractmethod
    async def _run(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run the operation outside the event loop. Raises embedfleet's errors in place of Chroma's."""

    def name_in_store(self, collection: CollectionKey) -> str:
        return collection_name(collection.tenant, collection.space)

    async def ensure_collection(self, collection: CollectionKey) -> None:
        name = self.name_in_store(collection)
        await self._run(ChromaCollections.ensure_collection, name, collection.space, collection.dim)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await self._run(ChromaCollections.upsert, self.name_in_store(collection), rows)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        name = self.name_in_store(collection)
        await self._run(ChromaCollections.update_metadata, name, ids, metadatas)

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        return await self._run(ChromaCollections.vectors, self.name_in_store(collection), ids)

    async def ids_with(
        self, collection: CollectionKey, key: str, values: Sequence[str]
    ) -> dict[str, list[str]]:
        name = self.name_in_store(collection)
        return await self._run(ChromaCollections.ids_with, name, key, values)

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        await self._run(ChromaCollections.delete, self.name_in_store(collection), ids)

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        for collection in collections:
            await self._run(ChromaCollections.forget_deleted, self.name_in_store(collection))

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        name = self.name_in_store(collection)
        return await self._run(ChromaCollections.query, name, vector, collection.space, limit)

    async def scan(
        self, collection: CollectionKey, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        name = self.name_in_store(collection)
        # All ids first, then pages by id: with an offset, a row deleted during the scan would hide another.
        for part in pages(await self._run(ChromaCollections.all_ids, name), page):
            ids, vectors = await self._run(ChromaCollections.vectors, name, part)
            if ids:
                yield ids, vectors

    async def count(self, collection: CollectionKey) -> int:
        return await self._run(ChromaCollections.count, self.name_in_store(collection))

    async def drop_collection(self, collection: CollectionKey) -> None:
        await self._run(ChromaCollections.drop_collection, self.name_in_store(collection))
