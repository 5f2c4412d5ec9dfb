"""The port of a view over Chroma: directories of the reader, or a server that the reader uses too."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from embedfleet.errors import VectorStoreDied, VectorStoreUnavailable
from embedfleet.paging import pages
from embedfleet.vectors.chroma.clients import open_server
from embedfleet.vectors.chroma.errors import server_error
from embedfleet.vectors.chroma.frames import REST
from embedfleet.vectors.chroma.process import VIEW_CHILD, ChromaProcess, ProcessLost
from embedfleet.vectors.chroma.view_child import ALONE, BESIDE
from embedfleet.vectors.chroma.view_operations import ChromaViewCollections
from embedfleet.vectors.port import VectorRows
from embedfleet.vectors.server_address import ServerAddress
from embedfleet.vectors.view_port import ViewCollection, ViewRows, ViewStore

T = TypeVar("T")

_MAX_WRITE_BYTES = 512 * 1024
"""About the most that one request sends, as for the main store (`server`)."""


class _ChromaViewStore(ViewStore, ABC):
    """Calls run one after the other, on a thread of the store."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma-view")
        self._closed = False

    @property
    def place(self) -> str:
        return self._place

    async def ensure(self, collection: ViewCollection) -> None:
        given = (collection.dim, collection.distance, collection.metadata, sorted(collection.fixed))
        await self._run(collection, "ensure_view", *given)

    async def upsert(self, collection: ViewCollection, rows: VectorRows) -> None:
        await self._run(collection, "upsert_view", rows)

    async def labels_with(
        self, collection: ViewCollection, key: str, values: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = await self._run(collection, "labels_with", key, values)
        return found

    async def rows(self, collection: ViewCollection, ids: Sequence[str]) -> ViewRows:
        return ViewRows(*await self._run(collection, "view_rows", ids))

    async def labels(
        self, collection: ViewCollection, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], list[Mapping[str, Any]]]]:
        # All ids first, then pages by id: with an offset, a row that is deleted in between would hide one.
        for part in pages(await self._run(collection, "all_ids"), page):
            ids, metadatas = await self._run(collection, "view_metadatas", part)
            yield ids, metadatas

    async def delete(self, collection: ViewCollection, ids: Sequence[str]) -> None:
        await self._run(collection, "delete", ids)

    async def forget_deleted(self, collection: ViewCollection) -> None:
        await self._run(collection, "forget_deleted")

    async def rest(self) -> None:
        if not self._closed:
            await self._on_thread(self._rest)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._on_thread(self._end)
            self._thread.shutdown()

    async def _run(self, collection: ViewCollection, operation: str, *args: Any) -> Any:
        if self._closed:
            raise VectorStoreUnavailable(f"the view at {self._place} is closed")
        return await self._on_thread(lambda: self._call(collection, operation, args))

    async def _on_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # --- on the thread ---

    @abstractmethod
    def _call(self, collection: ViewCollection, operation: str, args: Sequence[Any]) -> Any:
        """Run the operation of `ChromaViewCollections` on the collection. Raises embedfleet's errors."""

    @abstractmethod
    def _rest(self) -> None:
        """Let go of what other processes wait for."""

    @abstractmethod
    def _end(self) -> None:
        """Release all resources."""


class ChromaViewDirectories(_ChromaViewStore):
    """Directories on this machine, `{tenant}` in whose path stands for the tenant. One is open at a time."""

    def __init__(self, path: str, *, beside_reader: bool) -> None:
        """`beside_reader`: also write a directory that another process has open."""
        super().__init__(path)
        self._beside = BESIDE if beside_reader else ALONE
        self._process: ChromaProcess | None = None

    def _call(self, collection: ViewCollection, operation: str, args: Sequence[Any]) -> Any:
        directory = Path(self._place.replace("{tenant}", collection.tenant))
        return self._answer(operation, (str(directory), collection.name, *args))

    def _answer(self, operation: str, args: Sequence[Any]) -> Any:
        if self._process is None:
            self._process = ChromaProcess(VIEW_CHILD, self._beside)
        try:
            return self._process.call(operation, args)
        except ProcessLost as exc:
            self._end()
            raise VectorStoreDied(f"the view at {self._place} failed: its process ended ({exc})") from exc

    def _rest(self) -> None:
        if self._process is not None:
            self._answer(REST, ())

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class ChromaViewServer(_ChromaViewStore):
    """A server. Its clients do not disturb one another, so there is nothing to let go of."""

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout_seconds: float) -> None:
        """Raises ConfigError if the url is not valid. Nothing is connected yet."""
        self._address = ServerAddress.parse(url, headers)
        super().__init__(self._address.url)
        self._timeout_seconds = timeout_seconds
        self._collections: ChromaViewCollections | None = None

    def _call(self, collection: ViewCollection, operation: str, args: Sequence[Any]) -> Any:
        try:
            return getattr(self._connected(), operation)(collection.name, *args)
        except Exception as exc:
            # The view waits for a server that is not there yet, or refuses us, as for one that is away.
            ours = server_error(exc, self._address.url, opening=False)
            if ours is exc:
                raise
            raise ours from exc

    def _connected(self) -> ChromaViewCollections:
        if self._collections is None:
            client = open_server(self._address, timeout_seconds=self._timeout_seconds, connections=1)
            try:
                self._collections = ChromaViewCollections(client, max_write_bytes=_MAX_WRITE_BYTES)
            except BaseException:
                client.close()
                raise
        return self._collections

    def _rest(self) -> None:
        return

    def _end(self) -> None:
        if self._collections is not None:
            self._collections.close()
            self._collections = None
