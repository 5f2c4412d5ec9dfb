"""The collections that LangChain writes to Chroma: random ids, and the loader's metadata."""

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
    usual_facts,
)
from embedfleet.vectors.source import SourceCollection
from embedfleet.views.layouts.langchain import LangChainLayout as _Written


class LangChainLayout(SourceLayout):
    """A collection belongs to one tenant. Rows with the same `source` are one document.

    The rows of a document are in the order of their `start_index`, or else of the collection.
    """

    name = "langchain"

    def __init__(self, options: LayoutOptions) -> None:
        self._tenant = options.tenant
        self._document_key = options.document_key or "source"
        self.own_keys: Set[str] = USUAL_KEYS | {self._document_key}

    def tenant_of(self, collection: SourceCollection) -> str | None:
        return self._tenant

    def label(
        self, row_id: str, metadata: Mapping[str, Any], collection: SourceCollection
    ) -> RowLabel | None:
        source = metadata.get(self._document_key)
        return RowLabel(str(source or row_id), number_at(metadata, "start_index"))

    def is_of_view(self, metadata: Mapping[str, Any]) -> bool:
        return _Written().is_ours(metadata)

    def facts(self, metadata: Mapping[str, Any]) -> RowFacts:
        facts = usual_facts(metadata)
        # A loader counts pages from 0, and we from 1.
        return RowFacts(
            start=facts.start,
            heading=facts.heading,
            page=None if facts.page is None else facts.page + 1,
            title=facts.title,
            source=facts.source,
        )
