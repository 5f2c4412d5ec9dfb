"""The layout of LangChain's integration of Chroma (`langchain_chroma.Chroma`): texts with flat metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from embedfleet.views.layout import DOCUMENT, Passage, ReaderModel, Value

_PREFIX = "langchain_"


class LangChainLayout:
    """Each row is a `Document`: its text is the page content, and its id that of the chunk."""

    store_kind = "chroma"
    # LangChain scores by the distance that the collection has. Its score of `l2` leaves the range 0 to 1.
    distance: Literal["cosine"] = "cosine"
    document_key = "media_id"

    def collection(self, tenant: str) -> str:
        return _PREFIX + tenant

    def tenant_of(self, collection: str) -> str | None:
        return collection.removeprefix(_PREFIX) if collection.startswith(_PREFIX) else None

    def row_id(self, passage: Passage) -> str:
        return passage.chunk_id

    def metadata(self, passage: Passage, model: ReaderModel) -> Mapping[str, Value]:
        written: dict[str, Value | None] = {
            # `start_index` is what LangChain's text splitters call the offset of a chunk.
            "start_index": passage.start,
            "end_index": passage.end,
            "source": passage.source or passage.media_id,
            "title": passage.title or None,
            "heading": passage.heading or None,
            # LangChain's loaders count pages from 0, and give the number that people say as a label.
            "page": None if passage.page is None else passage.page - 1,
            "page_label": None if passage.page is None else str(passage.page),
            "start_seconds": passage.start_seconds,
            "end_seconds": passage.end_seconds,
            "content_type": passage.content_type,
        }
        told = {**written, **passage.metadata, "media_id": passage.media_id}
        return {name: value for name, value in told.items() if value is not None}

    def is_ours(self, metadata: Mapping[str, Any]) -> bool:
        # LangChain gives its own rows other ids, so it never writes one of ours again.
        return DOCUMENT in metadata

    def collection_metadata(self, dim: int, model: ReaderModel) -> Mapping[str, str | int]:
        return {}
