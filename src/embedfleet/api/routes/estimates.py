"""Estimates: what documents would cost if they were submitted now."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.api.access import Parts, Writer
from embedfleet.api.fields import access_of
from embedfleet.api.problems import responses
from embedfleet.api.submitting import NewJob
from embedfleet.queue_schemas import DocumentEstimate, Estimate

router = APIRouter(prefix="/v1", tags=["jobs"])

# As many documents as a page of a listing has rows. The size of the body bounds their texts.
_MOST_DOCUMENTS = 1_000
_MOST_SUMMED = 100_000


class EstimateRequest(BaseModel):
    """Documents to estimate, each as it would be submitted."""

    model_config = ConfigDict(extra="forbid")

    documents: Annotated[list[NewJob], Field(min_length=1, max_length=_MOST_DOCUMENTS)]


class Estimated(BaseModel):
    """The estimate of each document, in order, and their sums."""

    documents: list[DocumentEstimate]
    estimate: Estimate


class Estimates(BaseModel):
    """The estimates of documents."""

    model_config = ConfigDict(extra="forbid")

    documents: Annotated[list[DocumentEstimate], Field(max_length=_MOST_SUMMED)]


@router.post("/jobs:sum_estimates", responses=responses())
async def sum_estimates(parts: Parts, caller: Writer, estimates: Estimates) -> Estimate:
    """Sum estimates up, with the time that the workers would take at their present rate."""
    return await access_of(parts, caller).sum_of_estimates(estimates.documents)


@router.post("/jobs:estimate", responses=responses(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
async def estimate(parts: Parts, caller: Writer, request: EstimateRequest) -> Estimated:
    """Say what documents would cost: exact tokens, chunks, what is cached, money and time.

    Nothing is written. Each document is estimated as if it came alone, and limits do not count.
    """
    jobs = access_of(parts, caller)
    wanted = [document.request(caller.tenant) for document in request.documents]
    found = await jobs.estimate_documents(wanted)
    return Estimated(documents=found, estimate=await jobs.sum_of_estimates(found))
