"""Dead letters: what was given up. Look, run again, or accept the loss."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from embedfleet.api.access import Parts, Reader, Writer
from embedfleet.api.fields import NO_NUL, After, Limit, NextCursor, jobs_within
from embedfleet.api.problems import responses
from embedfleet.queue_schemas import DeadLetterInfo, Requeued, Stage

router = APIRouter(prefix="/v1", tags=["dead letters"])

_MOST = 100_000
_LARGEST_ID = 2**63 - 1  # what every database takes

_Number = Annotated[int, Field(ge=0, le=_LARGEST_ID)]
_JobId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]


class DeadLetterPage(BaseModel):
    """Some dead letters of a listing."""

    dead_letters: list[DeadLetterInfo]
    next_cursor: NextCursor


class Chosen(BaseModel):
    """Dead letters: by their numbers, or all of a job. Exactly one of the two is given."""

    model_config = ConfigDict(extra="forbid")

    ids: list[_Number] | None = Field(default=None, max_length=_MOST)
    job_id: _JobId | None = None


class ChosenOrOld(Chosen):
    """Dead letters: by their numbers, all of a job, or all that are older. Exactly one is given."""

    before: AwareDatetime | None = Field(
        default=None, description="Those given up before then, with a time zone."
    )


class Purged(BaseModel):
    """How many open dead letters were purged."""

    purged: int


@router.get("/dead_letters", responses=responses())
async def list_dead_letters(
    parts: Parts,
    caller: Reader,
    job_id: Annotated[
        str | None, Query(description="Only those of this job.", max_length=64, pattern=NO_NUL)
    ] = None,
    stage: Annotated[Stage | None, Query(description="Only those of this stage.")] = None,
    ended: Annotated[bool, Query(description="Also those requeued or purged.")] = False,
    limit: Limit = 100,
    after: After = None,
) -> DeadLetterPage:
    """Open dead letters, newest first. An operator who names no tenant sees those of all."""
    page = await jobs_within(parts, caller).list_dead_letters(
        job_id=job_id, stage=stage, ended=ended, limit=limit, after=after
    )
    return DeadLetterPage(dead_letters=page, next_cursor=page.next_cursor)


@router.get("/dead_letters/{dead_letter_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_dead_letter(
    parts: Parts,
    caller: Reader,
    dead_letter_id: Annotated[int, Path(description="Its number.", ge=0, le=_LARGEST_ID)],
) -> DeadLetterInfo:
    """One dead letter, open or ended. It names the place of the text, and never holds the text."""
    return await jobs_within(parts, caller).get_dead_letter(dead_letter_id)


@router.post("/dead_letters:requeue", status_code=202, responses=responses(HTTPStatus.NOT_FOUND))
async def requeue_dead_letters(parts: Parts, caller: Writer, chosen: Chosen) -> Requeued:
    """Run the jobs of these letters again; a job runs again for all of its letters."""
    return await jobs_within(parts, caller).requeue_dead_letters(chosen.ids, job_id=chosen.job_id)


@router.post("/dead_letters:purge", responses=responses(HTTPStatus.NOT_FOUND))
async def purge_dead_letters(parts: Parts, caller: Writer, chosen: ChosenOrOld) -> Purged:
    """Accept the loss: the letters are no longer open, and their jobs still name the missing ranges."""
    purged = await jobs_within(parts, caller).purge_dead_letters(
        chosen.ids, job_id=chosen.job_id, before=chosen.before
    )
    return Purged(purged=purged)
