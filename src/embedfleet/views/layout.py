"""The contract of a layout: how a reader expects the rows of a view. A layout does no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Value = str | int | float | bool | list[str]

DOCUMENT = "embedfleet_document"
"""The metadata key that each row of a view has beside those of its layout: the id of its document. So a
verification can tell rows that this system wrote from those of other owners."""
CHUNK = "embedfleet_chunk"
"""The metadata key with the id of the row's chunk."""
SPACE = "embedfleet_space"
"""The key in the metadata of a collection that names the space of its vectors."""

_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class ReaderModel:
    """What the reader calls the model that embeds its queries."""

    provider: str
    name: str


@dataclass(frozen=True, slots=True)
class Passage:
    """What a layout makes a row of. `start` and `end` are character offsets in the document.

    `page` and the seconds are None if the source has none. `metadata` is what the submitter gave.
    """

    media_id: str
    chunk_id: str
    chunk_index: int
    total_chunks: int
    start: int
    end: int
    heading: str
    title: str | None
    source: str | None
    content_type: str
    page: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)


class Layout(Protocol):
    """The rows and the collections of one kind of reader. Every method is a pure function."""

    @property
    def store_kind(self) -> str:
        """The kind of vector store that the reader has (`vectors.registry.STORES`)."""
        ...

    @property
    def distance(self) -> Literal["l2", "cosine"]:
        """The distance of a collection that the view creates. One that is there keeps its own."""
        ...

    @property
    def document_key(self) -> str:
        """The metadata key under which the reader's rows have the media id, as a text."""
        ...

    def collection(self, tenant: str) -> str:
        """Return the name of the tenant's collection, if the settings name none."""
        ...

    def tenant_of(self, collection: str) -> str | None:
        """Return the tenant that this collection belongs to; None if its name is not one of this layout."""
        ...

    def row_id(self, passage: Passage) -> str:
        """Return the id of the row. No two passages of a tenant have the same one."""
        ...

    def metadata(self, passage: Passage, model: ReaderModel) -> Mapping[str, Value]:
        """Return the metadata of the row. It has the media id under `document_key`."""
        ...

    def is_ours(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a row with this metadata is as this system wrote it.

        It is not if the reader's own writer has written it since: that may keep our keys, as Chroma merges
        the metadata of a row that is written again.
        """
        ...

    def collection_metadata(self, dim: int, model: ReaderModel) -> Mapping[str, str | int]:
        """Return the metadata of a collection that the view creates."""
        ...


def is_plain(tenant: str) -> bool:
    """Whether the tenant's name may stand in the name of a collection and in a path.

    A name that is not plain could name another directory, or the collection of another tenant.
    """
    return _PLAIN_TENANT.fullmatch(tenant) is not None
