"""Uploads: a file of any known format becomes a job."""

from __future__ import annotations

import asyncio
import hashlib
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from embedfleet.api.access import Parts, Principal, Writer
from embedfleet.api.fields import LONGEST_MODEL, LONGEST_SOURCE, IdempotencyKey, access_of
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api.receiving import ReceivedFile
from embedfleet.api.submitting import CREATION, Submitted, request_key, submit
from embedfleet.errors import EmptyDocument, InvalidRequest, ParseError
from embedfleet.ingest.intake import refusal_of_losses
from embedfleet.parsing.source_hash import source_hash_of
from embedfleet.queue_schemas import ChunkingConfig, DocumentEstimate, JobRequest, MetadataField
from embedfleet.validation import invalid_request

FORM_BYTES = 4 * 1024 * 1024
"""Room for what a form has around its file."""

router = APIRouter(prefix="/v1", tags=["jobs"])


class UploadOptions(BaseModel):
    """What is said of an uploaded file, in the query or in the fields of a form. The form counts first."""

    model_config = ConfigDict(extra="forbid")

    media_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="The tenant's own id of the document. Needed.",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="What the file is called. Its suffix gives the format; without a known one, the first "
        "bytes do. Needed, unless a form names the file.",
    )
    chunking_config: Json[ChunkingConfig] | None = Field(
        default=None, description="How it is cut, as JSON; without it, as the settings say."
    )
    priority: int = Field(default=50, ge=0, le=100, description="A tenant's jobs of a higher one go first.")
    model: str | None = Field(
        default=None,
        max_length=LONGEST_MODEL,
        description="Which model embeds it; without it, the default one.",
    )
    source: str | None = Field(
        default=None, max_length=LONGEST_SOURCE, description="Where it came from; without it, its name."
    )
    title: str | None = Field(default=None, max_length=1024, description="In place of the title in the file.")
    strict: bool = Field(default=False, description="Fail the job if content of the file is lost.")
    metadata: Json[MetadataField] | None = Field(
        default=None, description="Names with values, as JSON. Without it, the document keeps what it has."
    )
    keep_unreadable: bool = Field(
        default=False,
        description="If the file cannot be read, or would lose content against `strict`: make a failed job "
        "that says so, and not only an error. An empty file is an error in any case.",
    )


class EstimateOptions(UploadOptions):
    """What is said of a file that is estimated."""

    cut: bool = Field(
        default=True, description="Cut it to count its chunks. Without that, only the charge is told."
    )


class UploadedFile(Submitted):
    """A file that was submitted."""

    unreadable: str | None = Field(
        default=None, description="Why the file could not be read; then the job has failed."
    )


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file itself, or a form with one file and the same fields as the query.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "media_id": {"type": "string", "description": "The tenant's own id of the document."},
                    },
                    "additionalProperties": {"type": "string"},
                }
            },
        },
    }
}


@router.post(
    "/jobs:upload",
    status_code=202,
    response_model=UploadedFile,
    responses={**responses(HTTPStatus.UNPROCESSABLE_ENTITY), **CREATION},
    openapi_extra=_BODY,
)
async def upload(
    request: Request,
    parts: Parts,
    caller: Writer,
    options: Annotated[UploadOptions, Query()],
    key: IdempotencyKey = None,
) -> Response:
    """Submit a file of any known format, such as PDF, DOCX or HTML. It is read in a confined process."""
    tenant = caller.tenant
    async with parts.uploads.receive(request) as file:
        said = _said(options, file)

        async def prepare() -> JobRequest:
            return await _read(parts, tenant, file, said, refuse_losses=said.keep_unreadable)

        content = hashlib.sha256(said.model_dump_json().encode() + file.digest).digest()
        named = request_key(caller, "POST /v1/jobs:upload", key)
        try:
            return await submit(parts, caller, named, content, prepare)
        except ParseError as exc:
            if isinstance(exc, EmptyDocument) or not said.keep_unreadable:
                raise
            return await _kept_as_unreadable(parts, caller, file, said, exc)


def _said(options: UploadOptions, file: ReceivedFile) -> UploadOptions:
    """Return what query and form say together. Raises InvalidRequest if something is missing or wrong."""
    given: dict[str, Any] = {"name": file.name} if file.name else {}
    given |= {name: getattr(options, name) for name in options.model_fields_set}
    try:
        form = UploadOptions.model_validate(file.fields)
    except ValidationError as exc:
        raise invalid_request(exc, "form") from None
    given |= {name: getattr(form, name) for name in form.model_fields_set}
    said = UploadOptions.model_construct(**given)
    for name in ("media_id", "name"):
        if getattr(said, name) is None:
            raise InvalidRequest(f"{name}: is missing: give it in the query or in the form", field=name)
    return said


async def _kept_as_unreadable(
    parts: ApiParts, caller: Principal, file: ReceivedFile, said: UploadOptions, error: ParseError
) -> Response:
    """Answer with a failed job that says why the file cannot be read. The same bytes have the same job."""
    assert said.media_id is not None
    digest = await asyncio.to_thread(_source_hash, file, ocr=parts.settings.parsing.ocr)
    job_id = await access_of(parts, caller).record_unreadable(
        media_id=said.media_id,
        reason=str(error),
        model=said.model,
        source=said.source or said.name,
        source_hash=digest,
    )
    made = UploadedFile(job_id=job_id, media_id=said.media_id, position=job_id, unreadable=str(error))
    headers = {"Location": f"/v1/jobs/{job_id}"}
    return Response(made.model_dump_json(), 202, headers=headers, media_type="application/json")


def _source_hash(file: ReceivedFile, *, ocr: bool) -> str:
    with open(file.path, "rb") as opened:
        return source_hash_of(opened, ocr=ocr)


@router.post(
    "/jobs:estimate_upload",
    responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    openapi_extra=_BODY,
)
async def estimate_upload(
    request: Request,
    parts: Parts,
    caller: Writer,
    options: Annotated[EstimateOptions, Query()],
) -> DocumentEstimate:
    """Say what a file would cost if it were submitted. Nothing is kept of it."""
    async with parts.uploads.receive(request) as file:
        said = _said(options, file)
        wanted = await _read(parts, caller.tenant, file, said, refuse_losses=said.strict)
    return (await access_of(parts, caller).estimate_documents([wanted], cut=options.cut))[0]


async def _read(
    parts: ApiParts, tenant: str, file: ReceivedFile, said: UploadOptions, *, refuse_losses: bool
) -> JobRequest:
    """Read the file, and return the request that submits its text. Raises ParseError, InvalidRequest.

    With `refuse_losses`, a strict request for a file that loses content is refused; else its job fails.
    """
    assert said.media_id is not None
    async with parts.reading.turn(tenant):
        parsed = await parts.jobs.read_file(
            file.path, name=said.name, most_chars=parts.settings.http.max_upload_chars
        )
    if said.strict and refuse_losses and (refusal := refusal_of_losses(str(said.name), parsed.account)):
        raise refusal
    return JobRequest(
        media_id=said.media_id,
        user_id=tenant,
        content=parsed.text,
        content_type=parsed.content_type,
        chunking_config=said.chunking_config,
        priority=said.priority,
        model=said.model,
        source=said.source or said.name,
        source_hash=parsed.source_hash,
        title=said.title or parsed.title,
        account=parsed.account,
        places=parsed.places,
        strict=said.strict,
        metadata=said.metadata,
    )
