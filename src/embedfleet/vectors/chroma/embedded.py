"""The embedded Chroma store: one directory, one owner, one child process that has the directory open.

A write of Chroma holds the interpreter's lock until it is on disk. In the process of the pipeline that would
stop everything else: chunking, bookkeeping, the renewal of leases. So Chroma runs in a child process
(`child`). The child ends with this process, and the next call starts another one when it has died.

Chroma is thread-safe, but two processes that write one directory corrupt it. So the process that opens a
store holds the `DataDirectoryLock`, and the child holds a lock in the directory. A call blocks until it is
answered, so all calls run on one thread that the store owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from embedfleet.errors import VectorStoreDied, VectorStoreUnavailable
from embedfleet.vectors.chroma.frames import OPEN
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.chroma.process import ChromaProcess, ProcessLost
from embedfleet.vectors.chroma.store import ChromaStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ChromaVectorStore(ChromaStore):
    """The embedded store. Cancelling a call stops the waiting but not the write."""

    def __init__(self, directory: Path) -> None:
        """Create a store that is not open yet. Use `open` to get an open one."""
        self._directory = directory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chroma")
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

    async def _run(
        self, operation: Callable[Concatenate[ChromaCollections, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        if self._closed:
            raise VectorStoreUnavailable(f"the vector store in {self._directory} is closed")
        answer = await self._on_thread(lambda: self._call(operation.__name__, args, kwargs))
        return cast(_T, answer)

    async def _on_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # --- on the thread ---

    def _call(self, operation: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._process is None:
            self._process = ChromaProcess(self._directory)
        try:
            return self._process.call(operation, args, kwargs)
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
