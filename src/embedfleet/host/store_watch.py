"""Watches the vector store. Every orchestrator does, so that its metrics and its readiness know."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from embedfleet.errors import EmbedfleetError, VectorStoreUnavailable
from embedfleet.metrics import Metrics
from embedfleet.settings import VectorStoreSettings
from embedfleet.system_parts import Mark
from embedfleet.trouble import Trouble
from embedfleet.vectors.port import VectorStore
from embedfleet.waiting import repeat, wait_briefly

# A look is two small calls; a store that is away is noticed by the storage workers too.
_LOOK_SECONDS = 5.0


class StoreWatch:
    """Keeps the metrics of the vector store up to date: whether it is there, and its debt. A `Service`."""

    name: ClassVar = "store watch"

    def __init__(self, *, store: VectorStore, settings: VectorStoreSettings, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self.trouble = Trouble(over="the vector store answers again")
        metrics.store_debt_limit.labels("surplus_files").set(settings.max_surplus_files)
        metrics.store_debt_limit.labels("unindexed_rows").set(settings.max_unindexed_rows)

    async def run(self, stop: asyncio.Event) -> None:
        """Look every few seconds until `stop` is set, also while the store is away."""
        self._metrics.store_up.set(1)  # it was opened a moment ago
        await wait_briefly(stop, _LOOK_SECONDS)
        await repeat(stop, self.look, seconds=_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once. What fails is the trouble of this watch."""
        try:
            await self._store.follow()
            await self._require_mark()
            debt = await self._store.debt()
        except EmbedfleetError as exc:
            self._metrics.store_up.set(0)
            self._metrics.store_debt.clear()
            self.trouble.note(exc)
        else:
            self._metrics.store_up.set(1)
            self._metrics.store_debt.labels("surplus_files").set(debt.surplus_files)
            self._metrics.store_debt.labels("unindexed_rows").set(debt.unindexed_rows)
            self.trouble.clear()

    async def _require_mark(self) -> None:
        """Raise VectorStoreUnavailable if another place answers in place of the system's store."""
        part_id = self._store.part_id
        mark = await self._store.mark()
        if part_id is None or part_id != self._store.part_id:  # switched since
            return
        if mark is None:
            raise VectorStoreUnavailable(
                "the vector store has no mark of its system: it was emptied, or another place is there now, "
                "such as a mount point without its mount"
            )
        if Mark.from_text(mark).part_id != part_id:
            raise VectorStoreUnavailable(
                "the vector store has the mark of another one: look at what is there"
            )
