"""The embedded Chroma store: one directory, one owner, one child process that has the directory open.

A write of Chroma holds the interpreter's lock until it is on disk. In the process of the pipeline that would
stop everything else: chunking, bookkeeping, the renewal of leases. So Chroma runs in a child process
(`child`). The child ends with this process, and the next call starts another one when it has died.

Chroma is thread-safe, but two processes that write one directory corrupt it. So the process that opens a
store holds the `DataDirectoryLock`, and the child holds a lock in the directory. A call blocks until it is
answered, so all calls run on one thread that the store owns; searches go before writes that wait, and
between the parts of a large one (`call_order`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from embedfleet.errors import VectorStoreDied, VectorStoreUnavailable
from embedfleet.mark_file import MarkFile
from embedfleet.vectors.chroma.call_order import CallOrder
from embedfleet.vectors.chroma.frames import OPEN, QUERY_IN_TURN, VECTORS_IN_TURN
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.chroma.process import CHILD, ChromaProcess, ProcessLost
from embedfleet.vectors.chroma.store import ChromaStore
from embedfleet.vectors.port import CollectionKey, Hit, VectorRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_OF_SEARCHES = frozenset({"query", "vectors"})

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ChromaVectorStore(ChromaStore):
    """The embedded store. Cancelling a call stops the waiting, but not the write that is under way."""

    def __init__(self, directory: Path) -> None:
        """Create a store that is not open yet. Use `open` to get an open one."""
        self._directory = directory
        self._mark_file = MarkFile(directory)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
        self._order = CallOrder()
        self._process: ChromaProcess | None = None
        self._closed = False

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Open or create the store. The caller owns the data directory until `close` has returned.

        Raises ConfigError if the directory cannot be made, VectorStoreUnavailable if its content cannot be
        opened, and VectorStoreDied, as every call may.
        """
        store = cls(directory)
        try:
            await store._on_thread(lambda: store._call(OPEN, (), {}))
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._on_thread(self._end)
            self._thread.shutdown()

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        left = rows
        while True:
            now = self._order.rows_of_a_write(len(left.ids))
            await super().upsert(collection, left.part(0, now))
            if now == len(left.ids):
                return
            left = left.part(now, len(left.ids))

    async def mark(self) -> str | None:
        with self._mark_errors():
            return await self._mark_file.mark()

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        with self._mark_errors():
            return await self._mark_file.claim_mark(mark, replacing=replacing)

    @contextmanager
    def _mark_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise VectorStoreUnavailable(
                f"the vector store in {self._directory}: the file with its mark cannot be used "
                f"({exc.strerror or exc})"
            ) from exc

    async def _run(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        return cast(_T, await self._answer(operation.__name__, args, kwargs))

    async def _answer(self, operation: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store in {self._directory} is closed")
        return await self._on_thread(
            lambda: self._call(operation, args, kwargs), urgent=operation in _OF_SEARCHES
        )

    async def _on_thread(self, call: Callable[[], _T], *, urgent: bool = False) -> _T:
        future = self._order.add(call, urgent=urgent)
        self._thread.submit(self._order.take)
        return cast(_T, await asyncio.wrap_future(future))

    # --- on the thread ---

    def _started(self) -> ChromaProcess:
        if self._process is None:
            self._process = ChromaProcess(CHILD, str(self._directory))
        return self._process

    def _call(self, operation: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        process = self._started()
        try:
            return process.call(operation, args, kwargs)
        except ProcessLost as exc:
            self._end()
            raise VectorStoreDied(
                f"the vector store in {self._directory} failed: its process ended ({exc}): see what it "
                "printed, and whether memory is short"
            ) from exc

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class ChromaInTurn(ChromaVectorStore):
    """The embedded store for a process that only queries, at the same time as others that do.

    Its child opens the directory at the first query and keeps it until `close`. Others wait that long, so
    close it soon.
    """

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Start the child, which opens nothing yet. The caller has a share of the data directory."""
        store = cls(directory)
        await store._on_thread(store._started)
        return store

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        """Query as every store does. Raises VectorStoreUnavailable if the others take too long."""
        args = (self.name_in_store(collection), vector.tolist(), collection.space, limit)
        return cast("list[Hit]", await self._answer(QUERY_IN_TURN, args, {}))

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        """Return vectors as every store does. Raises VectorStoreUnavailable if the others take too long."""
        args = (self.name_in_store(collection), list(ids))
        return cast("tuple[list[str], NDArray[np.float32]]", await self._answer(VECTORS_IN_TURN, args, {}))
