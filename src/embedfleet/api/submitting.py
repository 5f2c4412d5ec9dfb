"""Submits documents for the caller of a route, and says where their jobs are."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from embedfleet.api.access import Principal
from embedfleet.api.fields import (
    LONGEST_MODEL,
    LONGEST_SOURCE,
    LONGEST_SOURCE_HASH,
    NO_NUL,
    NewMediaId,
    access_of,
)
from embedfleet.api.idempotency import Answer, Record
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import ChunkingConfig, ContentType, JobRequest, MetadataField
from embedfleet.records.idempotency import RequestKey
from embedfleet.validation import first_problem

REPLAYED = "Idempotency-Replayed"

CREATION: dict[int | str, dict[str, Any]] = {
    **responses(HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.INSUFFICIENT_STORAGE),
    202: {
        "description": "The job is durable. Its document can be searched when it has ended.",
        "headers": {
            "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
            REPLAYED: {
                "description": "`true`: this is the answer to the first request with the idempotency key.",
                "schema": {"type": "string"},
            },
        },
    },
}
"""What the OpenAPI document says of a route that submits one document."""


class NewJob(BaseModel):
    """A document as text: a new one, or a new version of one."""

    model_config = ConfigDict(extra="forbid")

    media_id: NewMediaId
    content: str = Field(description="The text.", json_schema_extra={"minLength": 1})
    content_type: ContentType = Field(
        default=ContentType.TEXT, description="How it is read: plain text, Markdown, or program code."
    )
    chunking_config: ChunkingConfig | None = Field(
        default=None, description="How it is cut; without it, as the settings say."
    )
    priority: int = Field(default=50, ge=0, le=100, description="A tenant's jobs of a higher one go first.")
    model: str | None = Field(
        default=None,
        max_length=LONGEST_MODEL,
        description="Which model embeds it; without it, the default one.",
    )
    source: str | None = Field(
        default=None,
        max_length=LONGEST_SOURCE,
        pattern=NO_NUL,
        description="Where it came from, as search shows it.",
    )
    source_hash: str | None = Field(
        default=None,
        max_length=LONGEST_SOURCE_HASH,
        pattern=NO_NUL,
        description="Fingerprint of the file that the text was read from.",
    )
    title: str | None = Field(
        default=None, max_length=1024, description="What it is called, if the text does not say it."
    )
    strict: bool = Field(default=False, description="Fail the job if content of the source is lost.")
    metadata: MetadataField | None = Field(
        default=None,
        description="Names with texts, numbers, booleans or lists of texts, by which searches filter. null "
        "keeps what the document has, {} removes it.",
    )

    def request(self, tenant: str) -> JobRequest:
        """Return the request of this tenant. Raises InvalidRequest."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return JobRequest(user_id=tenant, **fields)


class Submitted(BaseModel):
    """A job that was submitted."""

    job_id: str
    media_id: str
    position: str = Field(description="Pass it to a search as `after`: it waits until this can be found.")


def refusal(exc: ValidationError) -> InvalidRequest:
    """Return the error for what is wrong with a document. It shows no value, which may be text of it."""
    problem = first_problem(exc)
    if problem.kind == "json_invalid":
        return InvalidRequest("the line is no JSON document: write each document on one line")
    where = problem.field or "the line"
    return InvalidRequest(f"{where}: {problem.message}", field=problem.field, reason=problem.message)


def digest_of(content: BaseModel) -> bytes:
    """Return the hash of what a request says. Repeated requests are compared by it."""
    return hashlib.sha256(content.model_dump_json().encode()).digest()


def request_key(caller: Principal, route: str, key: str | None) -> RequestKey | None:
    """Return the key of a request on a route; None if the request has none."""
    return None if key is None else RequestKey(caller.tenant, route, key)


async def submit(
    parts: ApiParts,
    caller: Principal,
    key: RequestKey | None,
    digest: bytes,
    prepare: Callable[[], Awaitable[JobRequest]],
) -> Response:
    """Submit the document that `prepare` returns, or answer as the first request with the key was."""

    async def make(record: Record) -> Answer:
        request = await prepare()
        answers: list[Answer] = []

        def answer(conn: Connection, job_ids: list[str]) -> None:
            made = Submitted(job_id=job_ids[0], media_id=request.media_id, position=job_ids[0])
            answers.append(Answer(HTTPStatus.ACCEPTED, made.model_dump_json()))
            record(conn, answers[-1])

        await access_of(parts, caller).create_jobs([request], also=answer)
        return answers[-1]  # the unit may run more than once, and its last run counts

    answer = await parts.repeated.answer_once(key, digest, make)
    job_id = Submitted.model_validate_json(answer.body).job_id
    headers = {"Location": f"/v1/jobs/{job_id}", **replay_header(answer)}
    return Response(answer.body, answer.status, headers=headers, media_type="application/json")


def replay_header(answer: Answer) -> dict[str, str]:
    """Return the header that marks an answer which was given before."""
    return {REPLAYED: "true"} if answer.replayed else {}
