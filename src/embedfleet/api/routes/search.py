"""Search: the nearest passages, after what was just submitted can be found."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.api.access import Parts, Principal, Reader
from embedfleet.api.fields import NO_NUL, access_of
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.errors import Transient
from embedfleet.positions import MissingJob
from embedfleet.queue_schemas import Feedback, ModelDocuments, SearchHit
from embedfleet.searching.search import SearchRequest
from embedfleet.waiting import unless_stopped

router = APIRouter(prefix="/v1", tags=["search"])

_Position = Annotated[
    str | None,
    Query(
        description="The `position` of a submission: the search waits until all of it can be found.",
        max_length=128,
    ),
]
_Timeout = Annotated[
    float, Query(description="Seconds to wait for the position at most. 0: do not wait.", ge=0, le=60)
]


class SearchAnswer(BaseModel):
    """Hits, nearest first, and what was searched for them."""

    hits: list[SearchHit]
    model: str | None = Field(description="The only model that was searched; null: none, or several.")
    models: list[str] = Field(description="The models whose documents were searched.")
    not_searched: list[ModelDocuments] = Field(description="Documents of other models.")
    notice: str | None = Field(description="What a reader of the hits must know; null: nothing.")
    remedy: str | None = Field(description="The operation that helps.")
    exact: bool = Field(description="Every passage that the filter allows was compared with the query.")
    candidates: int = Field(description="How many passages were compared, or rows the index gave.")
    impression_id: str | None = Field(description="What feedback names; null: the answer takes none.")
    missing: list[MissingJob] = Field(
        description="Jobs of the position that ended and that a search does not find, or not all of."
    )


class NewFeedback(BaseModel):
    """What was clicked in an answer of a search."""

    model_config = ConfigDict(extra="forbid")

    impression_id: str = Field(max_length=64, pattern=NO_NUL, description="The id that the answer had.")
    clicked: list[Annotated[int, Field(strict=True)] | Annotated[str, Field(max_length=64)]] = Field(
        max_length=1_000, description="Ids of chunks of the answer, or places in it, from 0."
    )


@router.post("/feedback", responses=responses(HTTPStatus.NOT_FOUND))
async def give_feedback(parts: Parts, caller: Reader, given: NewFeedback) -> Feedback:
    """Say what was clicked in an answer that has an `impression_id`. The same again changes nothing."""
    return await access_of(parts, caller).feedback(given.impression_id, given.clicked)


@router.post("/search", response_model=SearchAnswer, responses=responses())
async def search(
    parts: Parts,
    caller: Reader,
    wanted: SearchRequest,
    after: _Position = None,
    timeout: _Timeout = 10.0,
) -> Response:
    """Find the passages nearest to a text, among those that the filter allows.

    If not all of `after` can be found in time, the answer is 503 and says which jobs are missing and why.
    """
    return await _search(parts, caller, wanted, after, timeout)


@router.get("/search", response_model=SearchAnswer, responses=responses())
async def search_by_query(
    parts: Parts,
    caller: Reader,
    query: Annotated[str, Query(description="What to look for.", max_length=8_192)],
    limit: Annotated[int, Query(description="The most hits.", ge=1, le=1_000)] = 5,
    model: Annotated[str | None, Query(description="Whose documents; without it, of all models.")] = None,
    after: _Position = None,
    timeout: _Timeout = 10.0,
) -> Response:
    """Find the passages nearest to a text. The query stands in logs of proxies: better send it by POST."""
    wanted = SearchRequest(query=query, limit=limit, model=model)
    return await _search(parts, caller, wanted, after, timeout)


async def _search(
    parts: ApiParts, caller: Principal, wanted: SearchRequest, after: str | None, timeout: float
) -> Response:
    access = access_of(parts, caller)
    missing: list[MissingJob] = []
    if after is not None:
        waiting = access.wait_until_visible(after, timeout_seconds=timeout)
        found = await unless_stopped(parts.stopping, waiting)
        if found is None:
            raise Transient("the server stops: search again")
        missing = found
    hits = await access.search(wanted)
    return JSONResponse({**hits.json_document(), "missing": [one.model_dump(mode="json") for one in missing]})
