"""Looks once for all duties of the leader whether work waits in SQL, as one write wakes all of them."""

from __future__ import annotations

import asyncio
from time import monotonic

from embedfleet.records import outbox
from embedfleet.records.outbox import Waiting
from embedfleet.sql.database import Database

# The duties that one write wakes ask within this time. An older look is repeated even if no write was noticed
# since, because a write of another process may go unnoticed.
_SHARED_SECONDS = 0.02


class WaitingWork:
    """Shares one look among the duties that ask after the same write. It belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = -1
        self._looked_at = 0.0
        self._look: asyncio.Task[Waiting] | None = None

    async def now(self) -> Waiting:
        """Return what waits. The look includes every write that was noticed before this call.

        Raises DatabaseUnavailable.
        """
        seen = await self._database.writes_noticed()
        if self._look is None or seen != self._seen or monotonic() - self._looked_at > _SHARED_SECONDS:
            self._seen, self._looked_at = seen, monotonic()
            self._look = asyncio.create_task(self._database.read(outbox.waiting), name="look into SQL")
        # Shielded: a duty that is cancelled must not take the look away from the others.
        return await asyncio.shield(self._look)
