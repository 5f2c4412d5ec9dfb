"""Jobs: submit a text, look, list, cancel, run again."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, Field

from embedfleet.api.access import Parts, Reader, Writer
from embedfleet.api.fields import NO_NUL, After, IdempotencyKey, JobId, Limit, jobs_within
from embedfleet.api.problems import responses
from embedfleet.api.submitting import CREATION, NewJob, Submitted, digest_of, request_key, submit
from embedfleet.queue_schemas import JobInfo, JobRequest, JobStatus

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class JobPage(BaseModel):
    """Some jobs of a listing."""

    jobs: list[JobInfo]
    next_cursor: str | None = Field(
        description="Pass it as `after` for the next page; null: this is the last."
    )


class Cancelled(BaseModel):
    """What became of a job that was to be cancelled."""

    job_id: str
    cancelled: bool = Field(description="False: it had ended already.")


class RunsAgain(BaseModel):
    """A job that runs again."""

    job_id: str
    status: JobStatus


@router.post("", status_code=202, response_model=Submitted, responses=CREATION)
async def create_job(parts: Parts, caller: Writer, document: NewJob, key: IdempotencyKey = None) -> Response:
    """Submit one version of a document.

    A newer version supersedes an unfinished older one. A version that readers see already costs nothing.
    """
    digest = b"" if key is None else await asyncio.to_thread(digest_of, document)

    async def prepare() -> JobRequest:
        return document.request(caller.tenant)

    return await submit(parts, caller, request_key(caller, "POST /v1/jobs", key), digest, prepare)


@router.get("", responses=responses())
async def list_jobs(
    parts: Parts,
    caller: Reader,
    status: Annotated[JobStatus | None, Query(description="Only those in this status.")] = None,
    media_id: Annotated[
        str | None, Query(description="Only those of this document.", max_length=1024, pattern=NO_NUL)
    ] = None,
    created_from: Annotated[
        AwareDatetime | None, Query(description="Only those submitted then or later, with a time zone.")
    ] = None,
    created_before: Annotated[
        AwareDatetime | None, Query(description="Only those submitted before then, with a time zone.")
    ] = None,
    limit: Limit = 100,
    after: After = None,
) -> JobPage:
    """Jobs, newest first. An operator who names no tenant sees those of all."""
    page = await jobs_within(parts, caller).list_jobs(
        status=status,
        media_id=media_id,
        created_from=created_from,
        created_before=created_before,
        limit=limit,
        after=after,
    )
    return JobPage(jobs=page, next_cursor=page.next_cursor)


@router.get("/{job_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_job(parts: Parts, caller: Reader, job_id: JobId) -> JobInfo:
    """How far a job is, or how it ended."""
    return await jobs_within(parts, caller).status(job_id)


@router.post("/{job_id}/cancel", responses=responses(HTTPStatus.NOT_FOUND))
async def cancel_job(parts: Parts, caller: Writer, job_id: JobId) -> Cancelled:
    """End an unfinished job. Readers keep the version they see."""
    return Cancelled(job_id=job_id, cancelled=await jobs_within(parts, caller).cancel(job_id))


@router.post("/{job_id}/retry", status_code=202, responses=responses(HTTPStatus.NOT_FOUND))
async def retry_job(parts: Parts, caller: Writer, job_id: JobId) -> RunsAgain:
    """Run an ended job again: what failed is tried again, and what is stored is kept."""
    jobs = jobs_within(parts, caller)
    await jobs.retry(job_id)
    return RunsAgain(job_id=job_id, status=(await jobs.status(job_id)).status)
