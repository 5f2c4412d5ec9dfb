"""Serves the requests for one document one after the other, and others side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class DocumentTurns:
    """Gives turns to callers within this process, in the order in which they ask. It belongs to one loop.

    A document takes memory only while a caller has its turn or waits for it.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}

    @asynccontextmanager
    async def of(self, tenant: str, media_id: str) -> AsyncIterator[None]:
        """Wait for the document's turn, and keep it during the block."""
        key = (tenant, media_id)
        line = self._lines.setdefault(key, _Line())
        # Counted before the wait: a line that is dropped while a caller waits would give two turns at once.
        line.users += 1
        try:
            async with line.lock:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[key]
