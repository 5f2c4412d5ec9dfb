"""The vector store port over Chroma, wherever its calls run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedfleet.vectors.chroma.operations import ChromaCollections, parts
from embedfleet.vectors.port import Hit, Metadata, VectorRows, VectorStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ChromaStore(VectorStore, ABC):
    """What the embedded store and the server's share: each verb is one operation on `ChromaCollections`."""

    @abstractmethod
    async def _run(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run this outside the event loop, with Chroma's errors as ours."""

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        await self._run(ChromaCollections.ensure_collection, name, space, dim)

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        await self._run(ChromaCollections.upsert, collection, rows)

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        await self._run(ChromaCollections.update_metadata, collection, ids, metadatas)

    async def vectors(self, collection: str, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        return await self._run(ChromaCollections.vectors, collection, ids)

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        await self._run(ChromaCollections.delete, collection, ids)

    async def query(
        self, collection: str, vector: NDArray[np.float32], *, space: str, limit: int
    ) -> list[Hit]:
        return await self._run(ChromaCollections.query, collection, vector, space, limit)

    async def scan(
        self, collection: str, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        # The ids first, then pages by id: an offset would skip rows when others are deleted meanwhile.
        for part in parts(await self._run(ChromaCollections.all_ids, collection), page):
            ids, vectors = await self._run(ChromaCollections.vectors, collection, part)
            if ids:
                yield ids, vectors

    async def count(self, collection: str) -> int:
        return await self._run(ChromaCollections.count, collection)

    async def drop_collection(self, name: str) -> None:
        await self._run(ChromaCollections.drop_collection, name)
