"""The thread on which a source reads by a library that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.vectors.source import Source

T = TypeVar("T")


class SourceOnThread(Source):
    """Reads by one client, on one thread.

    A kind of source defines `open_client`, `end_client` and `mapped_error`, which run on the thread, and
    reads with `run`.
    """

    def __init__(self, place: str) -> None:
        """`place`: where the source is, for messages, without secrets."""
        self._place = place
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="source")
        self._closed = False

    def open_client(self) -> None:
        """Open the client, or raise an error that `mapped_error` knows."""
        raise NotImplementedError

    def end_client(self) -> None:
        """Close the client, and remove what was made for it. It may not be open."""
        raise NotImplementedError

    def mapped_error(self, exc: BaseException) -> BaseException:
        """Return the error of embedfleet's tree for an error of the library; any other error as it is."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        return self._place

    async def opened(self) -> Self:
        """Open the client. If that fails, close the source and raise why."""
        try:
            await self.run(self.open_client)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self.end_client)
            self._thread.shutdown()

    async def run(self, call: Callable[[], T]) -> T:
        """Run the call on the thread. Raises embedfleet's errors in place of the library's."""
        if self._closed:
            raise VectorStoreUnavailable(f"the source {self._place} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._mapped, call)

    def _mapped(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except BaseException as exc:
            ours = self.mapped_error(exc)
            if ours is exc:
                raise
            raise ours from exc
