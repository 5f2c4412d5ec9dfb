"""Collections of no known system: one tenant, and a key of the metadata that tells documents apart."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from embedfleet.adoption.layout import (
    USUAL_KEYS,
    LayoutOptions,
    RowFacts,
    RowLabel,
    SourceLayout,
    number_at,
    text_at,
    usual_facts,
)
from embedfleet.vectors.source import SourceCollection
from embedfleet.views.layout import DOCUMENT

_USUAL_DOCUMENT_KEYS = ("media_id", "document_id", "doc_id", "source")


class PlainLayout(SourceLayout):
    """A collection belongs to one tenant.

    The document of a row is under the given key, or else under the first of the usual keys that the row has.
    A row with none of them is a document of its own.
    """

    name = "plain"

    def __init__(self, options: LayoutOptions) -> None:
        self._tenant = options.tenant
        self._keys = _USUAL_DOCUMENT_KEYS if options.document_key is None else (options.document_key,)
        self.own_keys: Set[str] = USUAL_KEYS | set(self._keys)

    def tenant_of(self, collection: SourceCollection) -> str | None:
        return self._tenant

    def label(
        self, row_id: str, metadata: Mapping[str, Any], collection: SourceCollection
    ) -> RowLabel | None:
        values = (metadata.get(key) for key in self._keys)
        media_id = next(
            (str(value) for value in values if isinstance(value, str | int) and str(value)), row_id
        )
        return RowLabel(
            media_id,
            number_at(metadata, "chunk_index", "chunk", "index"),
            text_at(metadata, "embedding_provider", "provider"),
            text_at(metadata, "embedding_model", "model") or text_at(collection.metadata, "model"),
        )

    def is_of_view(self, metadata: Mapping[str, Any]) -> bool:
        return DOCUMENT in metadata

    def facts(self, metadata: Mapping[str, Any]) -> RowFacts:
        return usual_facts(metadata)
