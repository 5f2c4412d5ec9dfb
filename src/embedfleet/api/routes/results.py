"""The chunks of a job, with their vectors if asked for, as they are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from embedfleet.api.access import Parts, Principal, Reader
from embedfleet.api.fields import JobId, jobs_within
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api.routes.events import scope_of
from embedfleet.api.streams import LineStream
from embedfleet.api.vector_forms import ChunkWithVector, VectorForm, Vectors, store_for, vectors_of
from embedfleet.progress import JobNow
from embedfleet.queue_schemas import JobInfo
from embedfleet.records.scope import Scope
from embedfleet.tracking.job_watch import Listener
from embedfleet.tracking.results import JobResults, Stored

router = APIRouter(prefix="/v1/jobs", tags=["streams"])


class ChunkLine(ChunkWithVector):
    """A chunk that is stored."""

    kind: Literal["chunk"] = "chunk"


class DeadLine(BaseModel):
    """A chunk that was given up. `start` and `end` are character offsets in the document's text."""

    kind: Literal["dead"] = "dead"
    chunk_index: int
    start: int
    end: int
    reason: str


class ProgressLine(BaseModel):
    """How far the job is, while nothing new is stored."""

    kind: Literal["progress"] = "progress"
    job: JobNow


class EndLine(BaseModel):
    """The last line: the job has ended, and every chunk that it stored was in a line before."""

    kind: Literal["end"] = "end"
    job: JobInfo


class CutLine(BaseModel):
    """The last line of a stream that is not complete: ask again."""

    kind: Literal["stopping"] = "stopping"
    reason: str


@router.get(
    "/{job_id}/results",
    status_code=200,
    response_class=LineStream,
    responses={
        200: {
            "model": ChunkLine | DeadLine | ProgressLine | EndLine | CutLine,
            "description": "One JSON document a line. Without a last line of kind `end` it is not complete.",
        },
        **responses(HTTPStatus.NOT_FOUND),
    },
)
async def stream_results(
    parts: Parts,
    caller: Reader,
    job_id: JobId,
    vectors: Vectors = VectorForm.NONE,
    text: Annotated[bool, Query(description="Whether the texts of the chunks come too.")] = True,
) -> Response:
    """The chunks of a job as they are stored, each once, and not only at the end. It ends with the job.

    While the job runs, the chunks come in the order in which they are stored.
    """
    store_for(parts, vectors)
    await jobs_within(parts, caller).status(job_id)
    parts.streams.require_room(caller.named_tenant)
    return LineStream(_lines(parts, caller, job_id, vectors, with_text=text))


async def _lines(
    parts: ApiParts, caller: Principal, job_id: str, form: VectorForm, *, with_text: bool
) -> AsyncGenerator[bytes, None]:
    results = JobResults(parts.database, job_id, with_text=with_text)
    scope = scope_of(caller)
    with parts.streams.one_more(caller.named_tenant):
        async with parts.watch.listen_to_job(scope, job_id) as listener:
            while not listener.stopped:
                found = await results.more()
                if found.chunks or found.dead:
                    yield await _encoded(parts, found, form)
                elif found.ended:
                    yield await _end(parts, scope, job_id)
                    return
                else:
                    async for line in _until_moved(parts, listener):
                        yield line
    yield _line(CutLine(reason="the server stops"))


async def _until_moved(parts: ApiParts, listener: Listener) -> AsyncGenerator[bytes, None]:
    """Return when the job has moved. Its progress is told when it did not for a while."""
    last: JobNow | None = None
    while not listener.stopped:
        heard = await listener.hear(timeout_seconds=parts.settings.http.heartbeat_seconds)
        if heard:
            return
        if (now := listener.last_of_job()) is not None and now.now is not None:
            last = now.now
        if last is not None:
            yield _line(ProgressLine(job=last))


async def _end(parts: ApiParts, scope: Scope, job_id: str) -> bytes:
    """Return the last line. The job may have been deleted with its document."""
    for info in await parts.jobs.of_all_tenants().statuses([job_id]):
        if scope.holds(info.tenant):
            return _line(EndLine(job=info))
    return _line(CutLine(reason="the job was deleted with its document"))


async def _encoded(parts: ApiParts, found: Stored, form: VectorForm) -> bytes:
    vectors = await vectors_of(store_for(parts, form), found.collection, found.chunks, form)
    lines: list[BaseModel] = [
        ChunkLine(**chunk.model_dump(), vector=vectors.get(chunk.chunk_id)) for chunk in found.chunks
    ]
    lines += [
        DeadLine(chunk_index=one.chunk_index, start=one.start, end=one.end, reason=one.reason)
        for one in found.dead
    ]
    return b"".join(map(_line, lines))


def _line(document: BaseModel) -> bytes:
    return document.model_dump_json(by_alias=True).encode() + b"\n"
