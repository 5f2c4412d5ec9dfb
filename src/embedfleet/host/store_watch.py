"""Watches the vector store. Every orchestrator does, so that its metrics and its readiness know."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from embedfleet.errors import EmbedfleetError
from embedfleet.metrics import Metrics
from embedfleet.trouble import Trouble
from embedfleet.vectors.port import TenantSpace, VectorStore
from embedfleet.waiting import repeat, wait_briefly

# A look is one small call; a store that is away is noticed by the storage workers too.
_LOOK_SECONDS = 5.0
# No tenant has this collection, so the store answers without a look at any row.
_NO_COLLECTION = TenantSpace("", "none", 1)


class StoreWatch:
    """Keeps the metric of the vector store up to date. A `Service`."""

    name: ClassVar = "store watch"

    def __init__(self, *, store: VectorStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self.trouble = Trouble(over="the vector store answers again")

    async def run(self, stop: asyncio.Event) -> None:
        """Look every few seconds until `stop` is set, also while the store is away."""
        self._metrics.store_up.set(1)  # it was opened a moment ago
        await wait_briefly(stop, _LOOK_SECONDS)
        await repeat(stop, self.look, seconds=_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once. What fails is the trouble of this watch."""
        try:
            await self._store.count(_NO_COLLECTION)
        except EmbedfleetError as exc:
            self._metrics.store_up.set(0)
            self.trouble.note(exc)
        else:
            self._metrics.store_up.set(1)
            self.trouble.clear()
