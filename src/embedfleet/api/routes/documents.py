"""Documents: list, look, change their metadata, delete; their texts and their chunks."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from embedfleet.api.access import Parts, Reader, Writer
from embedfleet.api.fields import After, Limit, MediaId, NextCursor, SourcePrefix, access_of, jobs_within
from embedfleet.api.problems import responses
from embedfleet.api.vector_forms import ChunkWithVector, VectorForm, Vectors, store_for, vectors_of
from embedfleet.document_filter import DocumentFilter
from embedfleet.document_metadata import Value
from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import DocumentInfo, DocumentText
from embedfleet.tracking.tenant_jobs import unknown_document

router = APIRouter(prefix="/v1", tags=["documents"])

_MOST_CHARS = 1_000_000
"""The longest part of a text in one answer: a few megabytes."""
_NOT_FOUND = responses(HTTPStatus.NOT_FOUND)

_Start = Annotated[int, Query(description="The first character, from 0.", ge=0, le=2**53)]
_End = Annotated[
    int | None,
    Query(
        description=f"The character after the last one. Without it, up to {_MOST_CHARS:,} characters.",
        ge=0,
        le=2**53,
    ),
]


class DocumentPage(BaseModel):
    """Some documents of a listing."""

    documents: list[DocumentInfo]
    next_cursor: NextCursor


class ChunkPage(BaseModel):
    """Some chunks of a document."""

    generation: int = Field(description="The number of the version that the chunks are of.")
    chunks: list[ChunkWithVector]
    next_cursor: NextCursor


class MetadataPatch(BaseModel):
    """Changes of a document's metadata."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[str, Any] = Field(
        description="Names with new values: texts, numbers, booleans or lists of texts. null removes a name. "
        "Names that are not here keep their values."
    )


class DocumentMetadata(BaseModel):
    """All metadata of a document."""

    media_id: str
    metadata: dict[str, Value]


class Deletion(BaseModel):
    """A deletion that has begun: no search finds the document any more."""

    media_id: str
    receipt_id: str = Field(description="The receipt says, once all is gone, what was searched again.")


class Deletions(BaseModel):
    """The deletions that have begun."""

    deletions: list[Deletion]


@router.get("/documents", responses=responses())
async def list_documents(
    parts: Parts,
    caller: Reader,
    prefix: SourcePrefix = "",
    where: Annotated[
        str | None,
        Query(
            description="Only those whose metadata meets this condition, in Chroma's syntax, as JSON.",
            max_length=65_536,
        ),
    ] = None,
    media_id: Annotated[list[str] | None, Query(description="Only these. Name it several times.")] = None,
    created_after: Annotated[
        AwareDatetime | None, Query(description="Only those first submitted then or later.")
    ] = None,
    created_before: Annotated[
        AwareDatetime | None, Query(description="Only those first submitted before then.")
    ] = None,
    limit: Limit = 100,
    after: After = None,
) -> DocumentPage:
    """Documents that are not deleted, by media id. An operator who names no tenant sees those of all."""
    matching = DocumentFilter(
        where=_condition(where),
        media_ids=media_id,
        created_after=created_after,
        created_before=created_before,
    )
    page = await jobs_within(parts, caller).list_documents(
        prefix=prefix, matching=matching, limit=limit, after=after
    )
    return DocumentPage(documents=page, next_cursor=page.next_cursor)


def _condition(where: str | None) -> Any:
    """Return the condition of a query; `DocumentFilter` checks what it says. Raises InvalidRequest."""
    try:
        return None if where is None else json.loads(where)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("where: is no JSON: write a condition as a JSON object", field="where") from exc


@router.post("/documents:delete", status_code=202, responses=responses())
async def delete_documents(parts: Parts, caller: Writer, matching: DocumentFilter) -> Deletions:
    """Delete all documents that the filter means. It must leave something out.

    If it fails midway, some are deleted: send it again.
    """
    receipts = await access_of(parts, caller).delete_documents(matching=matching)
    return Deletions(
        deletions=[Deletion(media_id=name, receipt_id=receipt) for name, receipt in receipts.items()]
    )


@router.get("/documents/{media_id:path}", responses=_NOT_FOUND)
async def get_document(parts: Parts, caller: Reader, media_id: MediaId) -> DocumentInfo:
    """One document: the version that readers see, otherwise the newest."""
    return await access_of(parts, caller).get_document(media_id=media_id)


@router.patch("/documents/{media_id:path}", responses=_NOT_FOUND)
async def change_metadata(
    parts: Parts, caller: Writer, media_id: MediaId, patch: MetadataPatch
) -> DocumentMetadata:
    """Change metadata of a document. Nothing is embedded."""
    kept = await access_of(parts, caller).set_metadata(media_id=media_id, patch=patch.metadata)
    return DocumentMetadata(media_id=media_id, metadata=dict(kept))


@router.delete("/documents/{media_id:path}", status_code=202, responses=_NOT_FOUND)
async def delete_document(parts: Parts, caller: Writer, media_id: MediaId) -> Deletion:
    """Delete a document with its texts, chunks, vectors and jobs. Searches miss it at once."""
    receipt = await access_of(parts, caller).delete_document(media_id=media_id)
    if receipt is None:
        raise unknown_document(caller.tenant, media_id)
    return Deletion(media_id=media_id, receipt_id=receipt)


@router.get("/texts/{media_id:path}", responses=_NOT_FOUND)
async def read_text(
    parts: Parts, caller: Reader, media_id: MediaId, start: _Start = 0, end: _End = None
) -> DocumentText:
    """The text of a document, or a part of it."""
    last = start + _MOST_CHARS if end is None else end
    if last - start > _MOST_CHARS:
        raise InvalidRequest(
            f"end: is {last - start:,} characters after the start, the most is {_MOST_CHARS:,}: read it "
            "in parts",
            field="end",
        )
    return await access_of(parts, caller).read_text(media_id=media_id, start=start, end=last)


@router.get("/chunks/{media_id:path}", responses=_NOT_FOUND)
async def list_chunks(
    parts: Parts,
    caller: Reader,
    media_id: MediaId,
    text: Annotated[bool, Query(description="Whether the texts of the chunks come too.")] = False,
    vectors: Vectors = VectorForm.NONE,
    limit: Limit = 100,
    after: After = None,
) -> ChunkPage:
    """The chunks of a document, in order, each with its offsets, its heading and perhaps its vector."""
    store = store_for(parts, vectors)
    found = await access_of(parts, caller).list_chunks(
        media_id=media_id, limit=limit, after=after, with_text=text
    )
    stored = await vectors_of(store, found.collection, found.chunks, vectors)
    chunks = [ChunkWithVector(**one.model_dump(), vector=stored.get(one.chunk_id)) for one in found.chunks]
    return ChunkPage(generation=found.generation, chunks=chunks, next_cursor=found.chunks.next_cursor)
