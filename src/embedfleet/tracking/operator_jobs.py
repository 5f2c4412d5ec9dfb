"""The jobs of all tenants, as an operator sees them."""

from __future__ import annotations

from embedfleet.clock import Clock
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import documents, jobs
from embedfleet.records.scope import EveryTenant
from embedfleet.sql.database import Database
from embedfleet.tracking.scoped_jobs import ScopedJobs


class OperatorJobs(ScopedJobs):
    """Every operation of `ScopedJobs` over the rows of all tenants, and what concerns the system as a whole.

    Never hand it to code that acts for one tenant: `TenantJobs` is for that.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock, EveryTenant())

    async def count_jobs(self) -> dict[JobStatus, int]:
        """How many jobs are in each status; statuses without any are left out."""
        return await self._database.read(jobs.count_by_status)

    async def cleanups_left(self) -> bool:
        """Whether leftovers of replaced, cancelled or deleted documents are still to be removed."""
        return bool(await self._database.read(lambda conn: documents.awaiting_cleanup(conn, 1)))

    async def wait_for_cleanups(self) -> None:
        """Return when no leftovers are to be removed. Workers must be running somewhere."""

        async def look() -> bool | None:
            return None if await self.cleanups_left() else True

        await self._database.until(look)
