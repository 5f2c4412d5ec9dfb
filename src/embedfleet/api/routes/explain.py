"""Why a document is not searchable yet."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from embedfleet.api.access import Parts, Reader
from embedfleet.api.fields import NO_NUL, JobId
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api.routes.events import scope_of
from embedfleet.explanation import JobExplanation
from embedfleet.tracking.explaining import Explainer

router = APIRouter(prefix="/v1", tags=["explain"])


@router.get("/jobs/{job_id}/explain", responses=responses(HTTPStatus.NOT_FOUND))
async def explain_job(parts: Parts, caller: Reader, job_id: JobId) -> JobExplanation:
    """Why the document of a job is not searchable yet: what goes first, how long it takes, what to do."""
    return await _explainer(parts).of_job(scope_of(caller), job_id)


@router.get("/explain", responses=responses(HTTPStatus.NOT_FOUND))
async def explain_document(
    parts: Parts,
    caller: Reader,
    media_id: Annotated[
        str,
        Query(
            description="The tenant's own id of the document.", min_length=1, max_length=1024, pattern=NO_NUL
        ),
    ],
) -> JobExplanation:
    """Why a document is not searchable yet, by its newest job."""
    return await _explainer(parts).of_document(caller.tenant, media_id)


def _explainer(parts: ApiParts) -> Explainer:
    return Explainer(parts.database, parts.clock, parts.settings, parts.broker)
