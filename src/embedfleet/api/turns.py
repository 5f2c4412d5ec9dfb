"""Shares a few places among the tenants, so that one of them never has all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TenantTurns:
    """Places for `most` at once. One tenant has at most all but one of them, if there are several."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._most_of_one = max(1, most - 1)
        self._of_tenants: dict[str, asyncio.Semaphore] = {}
        self._present: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a place of this tenant, and have it during the block."""
        mine = self._of_tenants.setdefault(tenant, asyncio.Semaphore(self._most_of_one))
        self._present[tenant] += 1
        try:
            async with mine, self._free:
                yield
        finally:
            self._present[tenant] -= 1
            if not self._present[tenant]:
                del self._present[tenant], self._of_tenants[tenant]
