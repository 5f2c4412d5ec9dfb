"""Chroma in process: one directory, one owner, one thread.

Chroma is thread-safe but two processes writing one directory corrupt it, so whoever opens a store
holds the `DataDirectoryLock`. Its calls block, so they all run on one thread the store owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from embedfleet.errors import EmbedfleetError, StorageFull, VectorStoreUnavailable
from embedfleet.storage.chroma_clients import open_directory
from embedfleet.storage.chroma_collections import ChromaCollections
from embedfleet.storage.chroma_errors import embedded_error
from embedfleet.storage.chroma_store import ChromaStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ChromaVectorStore(ChromaStore):
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
            ours = embedded_error(exc, self._directory)
            if ours is exc:
                raise
            if isinstance(ours, VectorStoreUnavailable | StorageFull):
                # A write that failed can leave a transaction open on a pooled connection, and the
                # write after next then waits for it without end. Opening anew rolls it back.
                self._discard()
            raise ours from exc

    def _ready(self) -> ChromaCollections:
        if self._collections is None:
            self._collections = ChromaCollections(open_directory(self._directory))
        return self._collections

    def _discard(self) -> None:
        if self._collections is not None:
            self._collections.close()
            self._collections = None
