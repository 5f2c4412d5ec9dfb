"""The collections of tldw_server: one client and two collections of media for each user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import replace
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
from embedfleet.views.layouts.tldw import TldwLayout as _Written

# Another one for media, beside the one that a view of this layout writes. All other collections are its own:
# claims, kanban boards, characters, stores that users made. They are left alone.
_OTHER_MEDIA = re.compile(r"user_embeddings_for_(.+)")
_ROW = re.compile(r"(?:media_)?(.+)_chunk_(\d+)")


class TldwLayout(SourceLayout):
    """A user is a tenant, and a media item a document."""

    name = "tldw"
    # Its search reads the title and the address of a media item as metadata, so they stay what they are.
    own_keys: Set[str] = (USUAL_KEYS - {"title", "url"}) | {"chunk_type", "extra", "kind"}

    def __init__(self, options: LayoutOptions) -> None:
        """The names of the collections say whose they are, so no option counts."""

    def tenant_of(self, collection: SourceCollection) -> str | None:
        found = _OTHER_MEDIA.fullmatch(collection.name)
        return _Written().tenant_of(collection.name) if found is None else found[1]

    def label(
        self, row_id: str, metadata: Mapping[str, Any], collection: SourceCollection
    ) -> RowLabel | None:
        named = _ROW.fullmatch(row_id)
        media_id = metadata.get("media_id", named[1] if named else None)
        if media_id is None or isinstance(media_id, bool | float) or not str(media_id):
            return None
        index = number_at(metadata, "chunk_index")
        if index is None and named:
            index = number_at({"chunk": named[2]}, "chunk")
        # Later releases note the model of the whole collection, and some rows do not say theirs.
        model = text_at(metadata, "embedding_model") or text_at(collection.metadata, "source_model_id")
        return RowLabel(str(media_id), index, text_at(metadata, "embedding_provider"), model)

    def is_of_view(self, metadata: Mapping[str, Any]) -> bool:
        return _Written().is_ours(metadata)

    def facts(self, metadata: Mapping[str, Any]) -> RowFacts:
        facts = usual_facts(metadata)
        # A row that it wrote over one of a view keeps the number of chunks that the view had.
        return replace(facts, chunks=None) if DOCUMENT in metadata else facts
