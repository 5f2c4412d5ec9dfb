"""Submit jobs, and get at those that were submitted. Needs SQL only: no broker, no vector store, no worker.

One SQL transaction submits a job; a running orchestrator finds it there (the transactional outbox) and offers
it to its workers. So any process that can open the database can submit and watch, and a job that is submitted
while nothing runs waits for the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.admission import Admission, request_from
from embedfleet.queue_schemas import ChunkingConfig, JobInfo, JobRequest, JobStatus, UserTier
from embedfleet.settings import Settings, load_settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.tracking.operator_jobs import OperatorJobs
from embedfleet.tracking.tenant_jobs import TenantJobs


class JobManagerConfig(BaseModel):
    """What a job manager needs to know; by default the settings of the environment."""

    model_config = ConfigDict(frozen=True)

    settings: Settings = Field(default_factory=load_settings)


class EmbeddingJobManager:
    """Submits jobs, and gives access to those that were submitted.

    Create, `initialize`, use from one event loop, `close`.

    `of(tenant)` is for a caller who acts for one tenant: it can neither see nor change another's rows.
    `of_all_tenants()` is for an operator. `get_job_status` and `wait` take a job's id alone and see every
    tenant's jobs: where the caller is not trusted, use `status` and `wait` of `of(tenant)`.
    """

    def __init__(
        self,
        config: JobManagerConfig | None = None,
        *,
        database: Database | None = None,
        catalogue: Catalogue | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`database`, `catalogue`: those of this process, if it has them; else the manager makes its own."""
        self._settings = (config or JobManagerConfig()).settings
        self._clock = clock or SystemClock()
        catalogue = catalogue or Catalogue(self._settings.models)
        self._admission = Admission(self._settings, catalogue, self._clock)
        self._shared_database = database
        self._own_database: Database | None = None

    async def initialize(self) -> None:
        """Open the database, creating or upgrading it. Raises ConfigError if that cannot be done."""
        if self._shared_database is None and self._own_database is None:
            database = open_database(self._settings)
            await database.open()
            self._own_database = database

    async def close(self) -> None:
        """Release what `initialize` opened. May be called twice."""
        if self._own_database is not None:
            await self._own_database.close()
            self._own_database = None

    async def __aenter__(self) -> EmbeddingJobManager:
        await self.initialize()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @property
    def _database(self) -> Database:
        database = self._shared_database or self._own_database
        if database is None:
            raise InvalidRequest("the job manager is not initialized: await initialize() first")
        return database

    # --- submit ---

    async def create_job(
        self,
        *,
        media_id: int | str,
        user_id: str,
        content: str,
        user_tier: UserTier = UserTier.FREE,
        content_type: str = "text",
        chunking_config: ChunkingConfig | None = None,
        priority: int = 50,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
    ) -> str:
        """Submit one version of a document of the tenant `user_id`; durable on return. Returns the job's id.

        A newer version supersedes an unfinished older one. A version that readers see already completes at
        once. A version that is under way is not begun twice: the id of its job is returned.

        Raises InvalidRequest (priority outside 0-100, empty content, unknown content type …),
        UnknownModel, QuotaExceeded, StorageFull, DatabaseUnavailable.
        """
        request = request_from(
            media_id=media_id,
            user_id=user_id,
            content=content,
            user_tier=user_tier,
            content_type=content_type,
            chunking_config=chunking_config,
            priority=priority,
            model=model,
            source=source,
            source_hash=source_hash,
        )
        return (await self.create_jobs([request]))[0]

    async def create_jobs(self, requests: Sequence[JobRequest]) -> list[str]:
        """Submit many documents in one transaction: all are admitted or, on any error, none."""
        admission = self._admission
        submissions = await asyncio.to_thread(lambda: [admission.prepare(request) for request in requests])
        return await self._database.write(lambda conn: admission.admit(conn, submissions))

    # --- look and change ---

    def of(self, tenant: str) -> TenantJobs:
        """The jobs and documents of this tenant only. Raises InvalidRequest if not initialized."""
        return TenantJobs(self._database, self._clock, self._admission, tenant)

    def of_all_tenants(self) -> OperatorJobs:
        """The jobs of every tenant, for an operator. Raises InvalidRequest if not initialized."""
        return OperatorJobs(self._database, self._clock)

    async def get_job_status(self, job_id: str) -> JobInfo:
        """Where the job is now, whichever tenant's it is. Raises UnknownJob."""
        return await self.of_all_tenants().status(job_id)

    async def wait(self, job_id: str, *, timeout_seconds: float | None = None) -> JobInfo:
        """Return when the job has ended, whichever tenant's it is. Raises TimeoutError (the job goes on),
        UnknownJob."""
        return await self.of_all_tenants().wait(job_id, timeout_seconds=timeout_seconds)

    # The documented calls that name their tenant: short for those of `of(user_id)`.

    async def list_jobs(
        self, user_id: str, *, status: JobStatus | None = None, limit: int = 100
    ) -> list[JobInfo]:
        """The tenant's jobs, newest first. `of(user_id).list_jobs` also turns pages."""
        return await self.of(user_id).list_jobs(status=status, limit=limit)

    async def retry_job(self, job_id: str, user_id: str) -> None:
        """Run an ended job of this tenant again. Raises InvalidRequest if it cannot be, UnknownJob."""
        await self.of(user_id).retry(job_id)

    async def cancel_job(self, job_id: str, user_id: str) -> bool:
        """End an unfinished job of this tenant; readers keep the version they see. False if it had ended
        already. Raises UnknownJob."""
        return await self.of(user_id).cancel(job_id)
