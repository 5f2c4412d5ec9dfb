"""Whether a vector store keeps up. If its debt is too large, who writes waits until it was tended."""

from __future__ import annotations

from time import monotonic

from embedfleet.errors import Transient
from embedfleet.settings import VectorStoreSettings
from embedfleet.vectors.port import VectorStore

# A look is cheap, but it lists the files of the store. Until the next one, a few seconds' writes come on top.
LOOK_SECONDS = 3.0


class StoreBehind(Transient):
    """The vector store has put off more upkeep than the settings allow."""


class StoreRoom:
    """Looks at the debt of a vector store every few seconds. It belongs to one loop that writes."""

    def __init__(self, store: VectorStore, settings: VectorStoreSettings) -> None:
        self._store = store
        self._most_files = settings.max_surplus_files
        self._most_rows = settings.max_unindexed_rows
        self._looked_at = -LOOK_SECONDS
        self._behind: str | None = None

    async def require(self) -> None:
        """Raise StoreBehind if more must not be written now, or VectorStoreUnavailable."""
        if not await self.is_there():
            raise StoreBehind(f"the vector store has {self._behind}: writing waits for its upkeep")

    async def is_there(self) -> bool:
        """Whether more may be written now. Raises VectorStoreUnavailable."""
        if monotonic() - self._looked_at >= LOOK_SECONDS:
            debt = await self._store.debt()
            self._looked_at = monotonic()
            over = [
                f"{count:,} {what} (at most {most:,})"
                for count, most, what in (
                    (debt.surplus_files, self._most_files, "files to merge"),
                    (debt.unindexed_rows, self._most_rows, "rows in no index"),
                )
                if count > most
            ]
            self._behind = " and ".join(over) or None
        return self._behind is None
