"""The layout of tldw_server: one collection of media for each user, which its RAG reads.

Its other collections (claims, kanban boards, characters, vector stores of its API) are not touched. Its
score of a row is `1 - distance`, with the squared distance of Chroma's `l2`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from embedfleet.views.layout import DOCUMENT, Passage, ReaderModel, Value

_COLLECTION = re.compile(r"user_(.+)_media_embeddings")


class TldwLayout:
    """Rows as tldw_server writes them itself, with the keys that its RAG reads besides."""

    store_kind = "chroma"
    distance: Literal["l2"] = "l2"
    document_key = "media_id"

    def collection(self, tenant: str) -> str:
        return f"user_{tenant}_media_embeddings"

    def tenant_of(self, collection: str) -> str | None:
        found = _COLLECTION.fullmatch(collection)
        return None if found is None else found[1]

    def row_id(self, passage: Passage) -> str:
        return f"media_{passage.media_id}_chunk_{passage.chunk_index}"

    def metadata(self, passage: Passage, model: ReaderModel) -> Mapping[str, Value]:
        written: dict[str, Value | None] = {
            "media_id": passage.media_id,
            "kind": "chunk",
            "chunk_index": passage.chunk_index,
            "total_chunks": passage.total_chunks,
            # As floats: tldw_server writes integers here, so a row tells which of the two wrote it last. Its
            # RAG takes the offsets from `start_char` and `end_char`.
            "chunk_start": float(passage.start),
            "chunk_end": float(passage.end),
            "start_char": passage.start,
            "end_char": passage.end,
            "chunk_type": "text",
            "embedding_provider": model.provider,
            "embedding_model": model.name,
            "title": passage.title or "",
            "author": "",
            "media_type": passage.content_type,
            "section_title": passage.heading or None,
            "page_number": passage.page,
            "start_seconds": passage.start_seconds,
            "end_seconds": passage.end_seconds,
            "source": passage.source,
        }
        # What the submitter says of a document (author, url, media_type) is more than we know of it. It
        # cannot take the place of the names that find a row and its document.
        told = {name: value for name, value in passage.metadata.items() if name not in _FIXED}
        return {name: value for name, value in {**written, **told}.items() if value is not None}

    def is_ours(self, metadata: Mapping[str, Any]) -> bool:
        return DOCUMENT in metadata and isinstance(metadata.get("chunk_start"), float)

    def collection_metadata(self, dim: int, model: ReaderModel) -> Mapping[str, str | int]:
        return {"embedding_dimension": dim, "source_model_id": model.name}


_FIXED = frozenset(
    {
        "media_id",
        "kind",
        "chunk_index",
        "total_chunks",
        "chunk_start",
        "chunk_end",
        "start_char",
        "end_char",
        "embedding_provider",
        "embedding_model",
    }
)
