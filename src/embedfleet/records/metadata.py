"""The metadata of a chunk's row in the vector store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from embedfleet import document_metadata
from embedfleet.records.chunks import ChunkRow

Metadata = Mapping[str, str | int | float | bool | list[str]]


class Version(Protocol):
    """What the rows of a version of a document say of it. `records.generations.Generation` is one."""

    @property
    def tenant(self) -> str: ...

    @property
    def media_id(self) -> str: ...

    @property
    def source(self) -> str | None: ...

    @property
    def metadata(self) -> document_metadata.Metadata: ...


def chunk_metadata(version: Version, job_id: str, row: ChunkRow) -> Metadata:
    """Return a row's metadata. The keys are a public format; an absent text is an empty string.

    A chunk has a page or seconds only if its source has. The document's own metadata has other names
    (`document_metadata.RESERVED_NAMES`). An empty list is left out, as Chroma takes none.
    """
    where = {"page": row.page, "start_seconds": row.start_seconds, "end_seconds": row.end_seconds}
    return {
        "media_id": version.media_id,
        "user_id": version.tenant,
        "chunk_id": row.chunk_id,
        "chunk_index": row.chunk_index,
        "job_id": job_id,
        "source": version.source or "",
        "heading": row.heading,
        **{key: value for key, value in where.items() if value is not None},
        **{name: value for name, value in version.metadata.items() if value != []},
    }
