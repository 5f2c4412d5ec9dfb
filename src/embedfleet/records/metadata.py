"""The metadata of a chunk's row in the vector store."""

from __future__ import annotations

from collections.abc import Mapping

from embedfleet.records.chunks import ChunkRow
from embedfleet.records.documents import Generation

Metadata = Mapping[str, str | int | float | bool | list[str]]


def chunk_metadata(generation: Generation, job_id: str, row: ChunkRow) -> Metadata:
    """Return a row's metadata. The keys are a public format; an absent text is an empty string.

    A chunk has a page or seconds only if its source has. The document's own metadata has other names
    (`document_metadata.RESERVED_NAMES`). An empty list is left out, as Chroma takes none.
    """
    where = {"page": row.page, "start_seconds": row.start_seconds, "end_seconds": row.end_seconds}
    return {
        "media_id": generation.media_id,
        "user_id": generation.tenant,
        "chunk_id": row.chunk_id,
        "chunk_index": row.chunk_index,
        "job_id": job_id,
        "source": generation.source or "",
        "heading": row.heading,
        **{key: value for key, value in where.items() if value is not None},
        **{name: value for name, value in generation.metadata.items() if value != []},
    }
