"""Many jobs and documents in one request, for a client that works through folders."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from embedfleet.api.access import Parts, Reader, Writer
from embedfleet.api.fields import LONGEST_MODEL, LONGEST_SOURCE_HASH, NO_NUL, NewMediaId, jobs_within
from embedfleet.api.problems import responses
from embedfleet.errors import UnknownJob
from embedfleet.queue_schemas import ChunkingConfig, JobInfo, JobTotals, MetadataField, Requeued
from embedfleet.tracking.scoped_jobs import ScopedJobs
from embedfleet.waiting import unless_stopped

router = APIRouter(prefix="/v1", tags=["many at once"])

MOST = 1_000
"""The most jobs or documents of one request."""
_LONGEST_WAIT_SECONDS = 30.0
"""Balancers cut a request that is silent for a minute."""

_Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]
_JobIds = Annotated[list[_Id], Field(max_length=MOST, description="The ids of jobs.")]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartOfId(_Asked):
    """The start of a job's id, as people type it."""

    start: _Id


class FoundId(BaseModel):
    """The only job whose id has that start."""

    job_id: str


class SomeJobs(_Asked):
    """Jobs by their ids."""

    job_ids: _JobIds


class Wait(SomeJobs):
    """Jobs, and how long to wait for their ends."""

    timeout_seconds: float = Field(
        default=0.0, ge=0, le=_LONGEST_WAIT_SECONDS, description="0: answer at once."
    )


class States(BaseModel):
    """The states of those of the jobs that exist, in any order."""

    jobs: list[JobInfo]


class SourceHash(_Asked):
    """A document, and the fingerprint of what its text would be read from now."""

    media_id: NewMediaId
    source_hash: str = Field(min_length=1, max_length=LONGEST_SOURCE_HASH, pattern=NO_NUL)


class Sources(_Asked):
    """Documents that may be unchanged."""

    sources: list[SourceHash] = Field(max_length=MOST)
    chunking_config: ChunkingConfig | None = Field(
        default=None, description="How they would be cut; without it, as the settings say."
    )
    model: str | None = Field(
        default=None,
        max_length=LONGEST_MODEL,
        description="Which model would embed them; without it, the default one.",
    )


class Matches(BaseModel):
    """For each of the sources, in order, the job that made or makes the same document of it; null: none."""

    jobs: list[JobInfo | None]


class MediaIds(_Asked):
    """Documents by their ids."""

    media_ids: list[NewMediaId] = Field(max_length=MOST)


class Models(BaseModel):
    """By document, the model of the version that readers see or that is being made."""

    models: dict[str, str]


class MetadataOfMany(_Asked):
    """New metadata, by document."""

    metadata: dict[NewMediaId, MetadataField] = Field(max_length=MOST)


class Changed(BaseModel):
    """The documents that exist, and so were changed."""

    media_ids: list[str]


@router.post("/jobs:find", responses=responses(HTTPStatus.NOT_FOUND))
async def find_job(parts: Parts, caller: Reader, wanted: StartOfId) -> FoundId:
    """Find the only job whose id starts so."""
    return FoundId(job_id=await jobs_within(parts, caller).find_job_id(wanted.start))


@router.post("/jobs:wait", responses=responses())
async def wait_for_jobs(parts: Parts, caller: Reader, wanted: Wait) -> States:
    """The states of jobs, when all of them have ended or the time is over.

    A job that does not exist, or is deleted, is left out. The answer comes at once if one does not exist.
    """
    jobs = jobs_within(parts, caller)
    if wanted.timeout_seconds:
        await unless_stopped(parts.stopping, _ends(jobs, wanted))
    return States(jobs=await jobs.statuses(wanted.job_ids))


async def _ends(jobs: ScopedJobs, wanted: Wait) -> None:
    with suppress(TimeoutError, UnknownJob):
        await jobs.wait_many(wanted.job_ids, timeout_seconds=wanted.timeout_seconds)


@router.post("/jobs:retry", status_code=202, responses=responses(HTTPStatus.NOT_FOUND))
async def retry_jobs(parts: Parts, caller: Writer, wanted: SomeJobs) -> Requeued:
    """Run ended jobs again. A job that cannot run again is named, and the others run."""
    return await jobs_within(parts, caller).retry_many(wanted.job_ids)


@router.post("/jobs:match", responses=responses())
async def match_jobs(parts: Parts, caller: Reader, wanted: Sources) -> Matches:
    """Find the jobs of documents that were made from the same source, so that it need not be sent again."""
    found = await parts.jobs.of(caller.tenant).find_jobs(
        [(one.media_id, one.source_hash) for one in wanted.sources],
        chunking_config=wanted.chunking_config,
        model=wanted.model,
    )
    return Matches(jobs=found)


@router.get("/jobs:totals", responses=responses())
async def job_totals(
    parts: Parts,
    caller: Reader,
    since: Annotated[
        AwareDatetime, Query(description="Over the jobs submitted then or later, with a time zone.")
    ],
) -> JobTotals:
    """Sums over jobs, for a progress bar. Ask about once a second."""
    return await jobs_within(parts, caller).totals(since=since)


@router.post("/documents:models", responses=responses())
async def models_of_documents(parts: Parts, caller: Reader, wanted: MediaIds) -> Models:
    """The models of documents. A document without a version is left out."""
    return Models(models=await parts.jobs.of(caller.tenant).models_of(wanted.media_ids))


@router.post("/documents:describe", responses=responses())
async def describe_documents(parts: Parts, caller: Writer, wanted: MetadataOfMany) -> Changed:
    """Give documents new metadata in place of all that they have. Nothing is embedded."""
    changed = await parts.jobs.of(caller.tenant).replace_metadata(wanted.metadata)
    return Changed(media_ids=sorted(changed))
