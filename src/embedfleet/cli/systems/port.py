"""The port between a command and the system that it acts on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from embedfleet.explanation import JobExplanation
    from embedfleet.queue_schemas import (
        DeadLetterInfo,
        DocumentInfo,
        JobEvent,
        JobInfo,
        JobStatus,
        Receipt,
        Requeued,
        SearchHits,
        Stage,
    )
    from embedfleet.records.cursors import Page
    from embedfleet.search import SearchRequest


class Jobs(Protocol):
    """The jobs, documents and dead letters within a scope: of one tenant, or of all that the caller may see.

    The contracts are those of `tracking.scoped_jobs.ScopedJobs`.
    """

    async def status(self, job_id: str) -> JobInfo: ...
    async def find_job_id(self, start: str) -> str: ...
    async def list_jobs(
        self, *, status: JobStatus | None = None, limit: int = 100, after: str | None = None
    ) -> Page[JobInfo]: ...
    async def cancel(self, job_id: str) -> bool: ...
    async def retry(self, job_id: str) -> None: ...

    def all_documents(self, *, prefix: str = "") -> AsyncIterator[DocumentInfo]: ...

    async def events(self, *, after: int = 0, limit: int = 100) -> list[JobEvent]: ...
    def follow_events(self, *, after: int = 0) -> AsyncIterator[JobEvent]: ...

    async def get_dead_letter(self, dead_letter_id: int) -> DeadLetterInfo: ...
    async def list_dead_letters(
        self,
        *,
        job_id: str | None = None,
        stage: Stage | None = None,
        limit: int = 100,
        ended: bool = False,
        after: str | None = None,
    ) -> Page[DeadLetterInfo]: ...
    async def requeue_dead_letters(
        self, ids: Sequence[int] | None = None, *, job_id: str | None = None
    ) -> Requeued: ...
    async def purge_dead_letters(
        self,
        ids: Sequence[int] | None = None,
        *,
        job_id: str | None = None,
        before: datetime | None = None,
    ) -> int: ...


class OneTenantsJobs(Jobs, Protocol):
    """The jobs and documents of one tenant. The contracts are those of `tracking.tenant_jobs.TenantJobs`."""

    async def delete_document(self, *, media_id: str) -> str | None: ...

    async def receipt(self, receipt_id: str) -> Receipt: ...
    async def list_receipts(self, *, limit: int = 100, after: str | None = None) -> Page[Receipt]: ...


class System(Protocol):
    """A system, here or elsewhere. Any method may raise Transient if it cannot be reached."""

    async def jobs(self, tenant: str | None) -> Jobs:
        """Return the jobs of this tenant; None: of every tenant that the caller may see."""
        ...

    async def tenant(self, named: str | None) -> str:
        """Return the tenant that a command acts for: the named one, otherwise that of the caller."""
        ...

    async def jobs_of(self, tenant: str) -> OneTenantsJobs:
        """Return the jobs and documents of this tenant."""
        ...

    async def searched_receipts(
        self, tenant: str, receipt_ids: Sequence[str], *, purpose: str, announce: Callable[[str], None]
    ) -> list[Receipt]:
        """Return these receipts of a tenant, in order, when each was searched for what is left.

        `purpose` says who works, to others that want the data directory; `announce` gets news in one line.
        """
        ...

    async def explain_job(self, tenant: str | None, job_id: str) -> JobExplanation:
        """Say why the document of a job is not searchable yet. Raises UnknownJob.

        With the tenant None, the job may be of any tenant that the caller may see.
        """
        ...

    async def explain_document(self, tenant: str, media_id: str) -> JobExplanation:
        """Say why the tenant's document is not searchable yet. Raises UnknownDocument."""
        ...

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        """Search as `search.SearchService.search` does."""
        ...
