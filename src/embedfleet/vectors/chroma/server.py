"""The Chroma store on a server, which every process of a fleet shares.

chromadb's client blocks, so its calls run on a few threads. Writes of one process into one collection run one
after the other, for two reasons. Replacing metadata takes a read and a write, and no other write may come
between them. And a server that gets several writes at once repeats work for each, which halves its speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from weakref import WeakValueDictionary

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.vectors.chroma.clients import open_server
from embedfleet.vectors.chroma.errors import server_error
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.chroma.store import ChromaStore
from embedfleet.vectors.port import CollectionKey, Metadata, VectorRows
from embedfleet.vectors.server_address import ServerAddress

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MAX_WRITE_BYTES = 512 * 1024
"""About the most that one request sends. Chroma takes 40 MiB, but nginx before it takes 1 MiB by default;
larger requests are hardly faster."""


class ChromaServerStore(ChromaStore):
    """The store of a fleet. Cancelling a call stops the waiting but not the write.

    Any number of processes may use one server. When two of them write one row at the same moment with
    different metadata keys, the row may keep the keys of both: give all rows of a collection the same keys.
    After a server was away, the next call uses it again.
    """

    def __init__(self, address: ServerAddress, *, timeout_seconds: float, connections: int) -> None:
        """Create a store that is not open yet. Use `open` to get an open one."""
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._threads = ThreadPoolExecutor(max_workers=connections, thread_name_prefix="chroma-server")
        self._running: set[Future[Any]] = set()
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._collections: ChromaCollections | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
        connections: int = 4,
    ) -> Self:
        """Connect to an http or https `url`; its port is the scheme's if it names none.

        Every request carries `headers` (a token, say) and the login of the url, if it has one. A server that
        is silent for `timeout_seconds` counts as away. Up to `connections` calls run at the same time; more
        wait.

        Raises VectorStoreUnavailable at once if no server answers. Raises ConfigError naming
        `vector_store.url` if the server is not Chroma, or `vector_store.token` if it refuses us.
        """
        address = ServerAddress.parse(url, headers or {})
        store = cls(address, timeout_seconds=timeout_seconds, connections=connections)
        connecting = store._submit(store._connect, opening=True)
        try:
            await asyncio.wrap_future(connecting)
        except BaseException:
            # After a cancellation the connecting may still run: it is undone when it has ended.
            connecting.add_done_callback(lambda _: store._disconnect())
            store._threads.shutdown(wait=False)
            raise
        return store

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        await self._write(collection, ChromaCollections.upsert, rows)

    async def update_metadata(
        self, collection: CollectionKey, ids: Sequence[str], metadatas: Sequence[Metadata]
    ) -> None:
        await self._write(collection, ChromaCollections.update_metadata, ids, metadatas)

    async def delete(self, collection: CollectionKey, ids: Sequence[str]) -> None:
        await self._write(collection, ChromaCollections.delete, ids)

    async def forget_deleted(self, *collections: CollectionKey) -> None:
        for collection in collections:
            await self._write(collection, ChromaCollections.forget_deleted)

    async def drop_collection(self, collection: CollectionKey) -> None:
        await self._write(collection, ChromaCollections.drop_collection)

    def expect_mark(self) -> None:
        if self._collections is not None:
            self._collections.expects_mark = True

    async def mark(self) -> str | None:
        return await self._run(ChromaCollections.mark)

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        return await self._run(ChromaCollections.claim_mark, mark, replacing)

    async def close(self) -> None:
        """Wait for calls that still run, also for writes whose callers were cancelled; then disconnect.

        Each request takes about `timeout_seconds` at most.
        """
        self._closed = True
        if running := [asyncio.wrap_future(call) for call in self._running.copy()]:
            await asyncio.wait(running)
        self._threads.shutdown()
        self._disconnect()

    async def _run(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        return await asyncio.wrap_future(self._start(operation, *args, **kwargs))

    async def _write(
        self,
        collection: CollectionKey,
        operation: Callable[Concatenate[ChromaCollections, str, _P], None],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Run the operation as soon as no other write of this store into the collection is under way."""
        name = self.name_in_store(collection)
        turn = self._writing.setdefault(name, asyncio.Lock())
        await turn.acquire()
        try:
            writing = self._start(operation, name, *args, **kwargs)
        except BaseException:
            turn.release()
            raise
        # The turn ends with the write, not with the waiting: a cancelled write still runs.
        loop = asyncio.get_running_loop()
        writing.add_done_callback(lambda _: loop.call_soon_threadsafe(turn.release))
        await asyncio.wrap_future(writing)

    def _start(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        collections = self._collections
        if self._closed or collections is None:
            raise VectorStoreUnavailable(f"the vector store at {self._address.url} is closed")
        return self._submit(lambda: operation(collections, *args, **kwargs), opening=False)

    def _submit(self, call: Callable[[], _T], *, opening: bool) -> Future[_T]:
        running = self._threads.submit(self._mapped, call, opening)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    # --- on a thread ---

    def _mapped(self, call: Callable[[], _T], opening: bool) -> _T:
        try:
            return call()
        except Exception as exc:
            ours = server_error(exc, self._address.url, opening=opening)
            if ours is exc:
                raise
            raise ours from exc

    def _connect(self) -> None:
        client = open_server(
            self._address, timeout_seconds=self._timeout_seconds, connections=self._connections
        )
        try:
            self._collections = ChromaCollections(client, max_write_bytes=_MAX_WRITE_BYTES)
        except BaseException:
            client.close()
            raise

    def _disconnect(self) -> None:
        if self._collections is not None:
            self._collections.close()
            self._collections = None
