"""Many documents in one request: lines of JSON in, lines of JSON out, while they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from embedfleet.api.access import Parts, Principal, Writer
from embedfleet.api.bulk import BulkAnswer, BulkEnd, BulkSubmission
from embedfleet.api.fields import IdempotencyKey
from embedfleet.api.idempotency import Answer, Record
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import problem_of, problem_of_http, responses
from embedfleet.api.spool import Spool
from embedfleet.api.submitting import REPLAYED, replay_header, request_key
from embedfleet.errors import EmbedfleetError, InvalidRequest, Transient
from embedfleet.records.idempotency import RequestKey
from embedfleet.waiting import cancel_and_wait

router = APIRouter(prefix="/v1", tags=["jobs"])

NDJSON = "application/x-ndjson"
_MOST_KEPT_LINES = 10_000
"""The most lines of a request with an idempotency key: its answer, about 2 MB, is kept in SQL for a day."""
_BLOCK_BYTES = 1 << 20

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A JSON document on each line, as `POST /v1/jobs` takes it. A line has at most "
        "`http.max_body_bytes`; their number has no limit without an idempotency key.",
        "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/NewJob"}}},
    }
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "model": BulkAnswer | BulkEnd,
        "description": "A JSON object for each line, in order: its number (`line`), and its `job_id` or its "
        "`error`, which is a problem. The last line has the sums, and the `position` of all. Read while you "
        "send, or after it.",
        "headers": {REPLAYED: {"description": "As for one job.", "schema": {"type": "string"}}},
    },
}


class _Duplex(StreamingResponse):
    """A response whose making reads the request. Starlette would read it too, to see a client leave."""

    media_type = NDJSON

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await self.stream_response(send)


@router.post(
    "/jobs:bulk",
    response_class=_Duplex,
    status_code=200,
    responses={**responses(HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE), **_ANSWER},
    openapi_extra=_BODY,
)
async def bulk(request: Request, parts: Parts, caller: Writer, key: IdempotencyKey = None) -> Response:
    """Submit many documents. A line that is refused stops no other line.

    With an idempotency key, a request has at most 10,000 lines, and is worked on when all of it has come.
    """
    named = request_key(caller, "POST /v1/jobs:bulk", key)
    if named is not None:
        return await _answered_once(request, parts, caller, named)
    folder = await parts.uploads.ready()
    answers = _while_it_comes(request, BulkSubmission(parts, caller), folder, parts)
    return _Duplex(answers)


async def _while_it_comes(
    request: Request, submission: BulkSubmission, folder: Path, parts: ApiParts
) -> AsyncGenerator[bytes, None]:
    with Spool(folder) as spool:
        working = asyncio.create_task(_work(request, submission, spool, parts), name="bulk submission")
        try:
            async for data in spool.read():
                yield data
        finally:
            await cancel_and_wait(working)


async def _work(request: Request, submission: BulkSubmission, spool: Spool, parts: ApiParts) -> None:
    """Submit the lines, and write the answers. The last line says why, if the body is not taken whole."""
    error = None
    try:
        try:
            async for answers in submission.answers(request.stream()):
                await spool.write(answers)
            if parts.stopping.is_set():
                error = problem_of(Transient("the server stops: send the lines without an answer again"))
        except HTTPException as exc:  # the body is too slow
            error = problem_of_http(exc)
        except EmbedfleetError as exc:
            error = problem_of(exc)
        await spool.write(submission.end(error))
    except ClientDisconnect:
        return
    except OSError as exc:
        # The client misses the last line, and so knows that it has no whole answer.
        logger.error("the answer to a bulk submission cannot be kept on the disk: {}", exc)
    finally:
        spool.end()


async def _answered_once(request: Request, parts: ApiParts, caller: Principal, key: RequestKey) -> Response:
    """Take the whole body to the disk, as its hash must be known, and answer it unless it was answered."""
    async with parts.uploads.receive(request) as file:
        if await asyncio.to_thread(_count_lines, file.path) > _MOST_KEPT_LINES:
            raise InvalidRequest(
                f"Idempotency-Key: the request has more than {_MOST_KEPT_LINES} lines: split it, or send it "
                "without the key",
                field="Idempotency-Key",
            )

        async def make(record: Record) -> Answer:
            submission = BulkSubmission(parts, caller)
            lines = [answers async for answers in submission.answers(_blocks(file.path))]
            answer = Answer(HTTPStatus.OK, b"".join([*lines, submission.end()]).decode())
            await parts.database.write(lambda conn: record(conn, answer))
            return answer

        answer = await parts.repeated.answer_once(key, file.digest, make)
    return Response(answer.body, answer.status, headers=replay_header(answer), media_type=NDJSON)


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, _BLOCK_BYTES), b"")) + 1
