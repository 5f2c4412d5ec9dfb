"""Records of documents, their texts and chunks, and of collections."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from embedfleet.account import NOTHING_SAID
from embedfleet.document_metadata import Value
from embedfleet.queue_schemas.vocabulary import AccountField, Frozen, TenantId


class DocumentState(StrEnum):
    """`live`: searches find it. `building`: its first version is under way. `failed`: no version of it could
    be made, or it was cancelled."""

    LIVE = "live"
    BUILDING = "building"
    FAILED = "failed"


class DocumentInfo(Frozen):
    """A document that was submitted and not deleted: the version that readers see, otherwise the newest."""

    schema_version: Literal[1] = 1
    tenant: TenantId
    media_id: str
    source: str | None = Field(default=None, description="Where it came from, if that was said.")
    state: DocumentState
    model: str
    generation: int = Field(description="The number of the version, from 1.")
    chars: int = Field(description="Size in characters; 0 if its source could not be turned into text.")
    title: str | None = Field(default=None, description="What it is called, if its text does not say it.")
    chunks: int | None = Field(default=None, description="How many it has; None until all of it is cut.")
    coverage: float | None = Field(default=None, description="As in JobInfo; None unless it is live.")
    account: AccountField = Field(default=NOTHING_SAID, description="What of its source is not in its text.")
    metadata: dict[str, Value] = Field(default={}, description="What its submitter says of it.")
    created_at: datetime = Field(description="When it was first submitted.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class CollectionInfo(Frozen):
    """The vectors of one tenant in one space. Only vectors of one space can be compared."""

    tenant: TenantId
    model: str = Field(description="The model that made the space first.")
    space: str
    dim: int = Field(description="The size of a vector.")
    documents: int = Field(
        description="How many of its documents readers see: of a space that an experiment fills, those that "
        "no other space has. While the tenant is switched to another model, a document is in both spaces."
    )

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that the API answers with."""
        return self.model_dump(mode="json", by_alias=True)


class DocumentText(Frozen):
    """A part of a document's text, of the version that readers see, otherwise of the newest."""

    generation: int = Field(description="The number of the version, from 1.")
    start: int = Field(description="Character offsets of the part, half-open.")
    end: int
    chars: int = Field(description="Size of the whole text in characters.")
    text: str | None = Field(description="None: it is not kept, as no version is live or under way.")


class ChunkInfo(Frozen):
    """A chunk of a document. `start` and `end` are character offsets in the document's text."""

    chunk_index: int = Field(description="Its place in the document, from 0.")
    chunk_id: str
    start: int
    end: int
    tokens: int = Field(description="Tokens of its context and its text, as its model counts.")
    unknown_tokens: int = Field(description="Those of them for text that the model does not know.")
    heading: str = Field(description="The headings above it, from the outermost; empty without any.")
    context: str = Field(description="Embedded before the text: title, headings, a header row.")
    page: int | None = Field(default=None, description="The page it begins on; None without pages.")
    start_seconds: float | None = Field(default=None, description="When it is said; None: no recording.")
    end_seconds: float | None = None
    text: str | None = Field(default=None, description="None: not asked for, or not kept.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that the API answers with."""
        return self.model_dump(mode="json")
