"""Chroma in process: one directory, one owner, one thread.

Chroma is thread-safe but two processes writing one directory corrupt it, so whoever opens a store
holds the `DataDirectoryLock`. Its calls block, so they all run on one thread the store owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import EmbedfleetError, StorageFull, VectorStoreUnavailable
from embedfleet.storage.chroma_collections import ChromaCollections, parts
from embedfleet.storage.chroma_errors import as_ours
from embedfleet.storage.vector_store import Hit, Metadata, VectorRows, VectorStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ChromaVectorStore(VectorStore):
    """The embedded store. Cancelling a call stops the waiting, not the write."""

    def __init__(self, directory: Path) -> None:
        """A store that is not open yet: use `open`."""
        self._directory = directory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        self._collections: ChromaCollections | None = None
        self._closed = False

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Open or create the store. The caller owns the data directory until `close` has returned.

        Raises ConfigError if the directory cannot be made, VectorStoreUnavailable if its content
        cannot be opened.
        """
        store = cls(directory)
        try:
            await store._on_thread(store._ready)
        except BaseException:
            store._thread.shutdown(wait=False)
            raise
        return store

    async def ensure_collection(self, name: str, *, space: str, dim: int) -> None:
        await self._run(ChromaCollections.ensure_collection, name, space, dim)

    async def upsert(self, collection: str, rows: VectorRows) -> None:
        await self._run(ChromaCollections.upsert, collection, rows)

    async def update_metadata(
        self, collection: str, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        await self._run(ChromaCollections.update_metadata, collection, ids, metadatas)

    async def existing(self, collection: str, ids: Sequence[str]) -> set[str]:
        return await self._run(ChromaCollections.existing, collection, ids)

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

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._on_thread(self._discard)
            self._thread.shutdown()

    async def _run(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store in {self._directory} is closed")
        return await self._on_thread(lambda: operation(self._ready(), *args, **kwargs))

    async def _on_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._mapped, call)

    # --- on the thread ---

    def _mapped(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except EmbedfleetError:
            raise
        except BaseException as exc:
            ours = as_ours(exc, self._directory)
            if ours is exc:
                raise
            if isinstance(ours, VectorStoreUnavailable | StorageFull):
                # A write that failed can leave a transaction open on a pooled connection, and the
                # write after next then waits for it without end. Opening anew rolls it back.
                self._discard()
            raise ours from exc

    def _ready(self) -> ChromaCollections:
        if self._collections is None:
            self._collections = ChromaCollections(self._directory)
        return self._collections

    def _discard(self) -> None:
        if self._collections is not None:
            self._collections.close()
            self._collections = None
