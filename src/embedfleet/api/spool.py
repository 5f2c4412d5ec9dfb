"""Answers that are made faster than the client reads them wait on the disk.

Most clients read no answer before they have sent their whole request. If the server waited until they read,
and they until the server reads, both would wait for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 64 * 1024


class Spool:
    """Bytes on the disk: one task writes and ends them, another one reads them as they come."""

    def __init__(self, folder: Path) -> None:
        # It has no name, so nothing is left of it, however the process ends.
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - it is closed with the spool
        self._lock = threading.Lock()  # the place in the file is that of the writer or that of the reader
        self._written = 0
        self._ended = False
        self._news = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Add bytes. Raises OSError if the disk is full."""

        def write() -> None:
            with self._lock:
                self._file.seek(self._written)
                self._file.write(data)

        await asyncio.to_thread(write)
        self._written += len(data)
        self._news.set()

    def end(self) -> None:
        """Say that nothing more comes."""
        self._ended = True
        self._news.set()

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield all bytes as they come, until the end."""
        place = 0
        while True:
            # In this order: what comes after the look at `_written` sets the event again.
            self._news.clear()
            ended = self._ended
            while place < self._written:
                data = await asyncio.to_thread(self._read_at, place)
                place += len(data)
                yield data
            if ended:
                return
            await self._news.wait()

    def _read_at(self, place: int) -> bytes:
        with self._lock:
            self._file.seek(place)
            return self._file.read(_BLOCK_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
