"""The jobs of all tenants, as an operator sees them."""

from __future__ import annotations

from embedfleet.clock import Clock
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import document_cleanup, job_counts
from embedfleet.records.scope import EveryTenant
from embedfleet.sql.database import Database
from embedfleet.tracking.scoped_jobs import ScopedJobs


class OperatorJobs(ScopedJobs):
    """The operations of `ScopedJobs` on the rows of all tenants, and questions about the whole system.

    Never pass it to code that acts for one tenant: use `TenantJobs` for that.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock, EveryTenant())

    async def count_jobs(self) -> dict[JobStatus, int]:
        """Count the submitted jobs in each status, as lists have them. A status without any is left out."""
        return await self._database.read(job_counts.count_by_status)

    async def cleanups_left(self) -> bool:
        """Whether any document waits for a cleanup, which removes the leftovers of ended or replaced work."""
        return bool(await self._database.read(lambda conn: document_cleanup.awaiting_cleanup(conn, 1)))

    async def wait_for_cleanups(self) -> None:
        """Return when no document waits for a cleanup. Workers must be running somewhere."""

        async def look() -> bool | None:
            return None if await self.cleanups_left() else True

        await self._database.until(look)
