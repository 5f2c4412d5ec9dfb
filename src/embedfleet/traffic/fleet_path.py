"""The path to the fleet: submits a document, and waits a while for readers to see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from embedfleet.errors import Permanent, UnknownDocument, UnknownJob
from embedfleet.queue_schemas import (
    ChunkingConfig,
    ContentType,
    DocumentInfo,
    DocumentState,
    JobInfo,
    JobRequest,
    JobStatus,
)
from embedfleet.traffic.paths import IngestRequest, IngestResult
from embedfleet.traffic.requests import job_request

_VISIBLE = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)


class FleetAccess(Protocol):
    """What the path needs of one tenant's access. `TenantAccess` and `client.AsyncClient` have it."""

    async def create_job(
        self,
        *,
        media_id: str,
        content: str,
        content_type: ContentType,
        chunking_config: ChunkingConfig | None,
        priority: int,
        model: str | None,
        source: str | None,
        title: str | None,
        metadata: dict[str, Any] | None,
    ) -> str:
        """Submit one version of a document, and return the job's id. The job is durable on return."""
        ...

    async def wait(self, job_id: str, *, timeout_seconds: float | None) -> JobInfo:
        """Return when the job has ended. Raises TimeoutError after the time, and UnknownJob."""
        ...

    async def status(self, job_id: str) -> JobInfo:
        """Return the present state of the job. Raises UnknownJob."""
        ...

    async def get_document(self, *, media_id: str) -> DocumentInfo:
        """Return the version that readers see, otherwise the newest. Raises UnknownDocument."""
        ...

    async def delete_document(self, *, media_id: str) -> str | None:
        """Hide the document from readers at once, and end its jobs. Return None if there is no document."""
        ...


AccessOf = Callable[[str], FleetAccess]
"""Gives the access of a tenant: `EmbeddingJobManager.of`, or `AsyncClient.of` with an operator's key."""


class FleetPath:
    """Sends documents to the fleet. A `RemovingPath`, a `FollowingPath` and a `ShowingPath`.

    A call answers when readers see the document, or after `wait_seconds` with `visible=False`: the fleet has
    the document then and goes on with it (`until_ended` waits for that). Its results do not tell the chunks.
    """

    def __init__(self, access_of: AccessOf, *, wait_seconds: float = 30.0) -> None:
        """`access_of` gives the access of a tenant. With `wait_seconds` 0 a call only submits."""
        self._access_of = access_of
        self._wait_seconds = wait_seconds

    async def __call__(self, request: IngestRequest) -> IngestResult:
        """Submit the document and wait for its job.

        Raises what submitting raises: then nothing was submitted, unless it is Transient and the access goes
        over a network. Raises Permanent if the fleet gives the document up; readers keep the version before.
        After any other error, as when the database goes away during the wait, the outcome is not known.
        """
        wanted = job_request(request)
        job_id = await self._submit(wanted)
        return await self.until_ended(request.tenant, job_id, timeout_seconds=self._wait_seconds)

    async def until_ended(
        self, tenant: str, job_id: str, *, timeout_seconds: float | None = None
    ) -> IngestResult:
        """Return how a job of this path ended, or `visible=False` after the time.

        `visible` is also False if the job was cancelled, or was superseded by a newer version, and if its
        document was deleted. Raises Permanent if the fleet gave the document up.
        """
        try:
            ended = await self._access_of(tenant).wait(job_id, timeout_seconds=timeout_seconds)
        except TimeoutError:
            return IngestResult(chunks=0, visible=False, job_id=job_id)
        except UnknownJob:  # the job goes with its document when that is deleted during the wait
            return IngestResult(chunks=0, visible=False, job_id=job_id)
        if ended.status is JobStatus.FAILED:
            raise Permanent(f"the fleet gave up document `{ended.media_id}` (job {job_id}): {ended.reason}")
        return IngestResult(
            chunks=ended.progress.chunks_stored, visible=ended.status in _VISIBLE, job_id=job_id
        )

    async def is_visible(self, tenant: str, job_id: str) -> bool | None:
        """Return whether readers see what the job stored; None if they never will, or if it is unknown.

        Raises what the access raises.
        """
        try:
            job = await self._access_of(tenant).status(job_id)
        except UnknownJob:
            return None
        if job.finished_at is None:
            return False
        return True if job.status in _VISIBLE else None

    async def shows(self, tenant: str, media_id: str) -> bool:
        """Return whether readers see a version of the document. Raises what the access raises."""
        try:
            found = await self._access_of(tenant).get_document(media_id=media_id)
        except UnknownDocument:
            return False
        return found.state is DocumentState.LIVE

    async def remove(self, tenant: str, media_id: str) -> None:
        """Hide the document from readers, and end its jobs. Workers delete what is stored of it later.

        Raises as the access does: the call may be repeated.
        """
        await self._access_of(tenant).delete_document(media_id=media_id)

    async def _submit(self, wanted: JobRequest) -> str:
        return await self._access_of(wanted.user_id).create_job(
            media_id=wanted.media_id,
            content=wanted.content,
            content_type=wanted.content_type,
            chunking_config=wanted.chunking_config,
            priority=wanted.priority,
            model=wanted.model,
            source=wanted.source,
            title=wanted.title,
            metadata=wanted.metadata,
        )
