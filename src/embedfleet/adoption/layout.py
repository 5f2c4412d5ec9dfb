"""What a layout tells of a source: whose its collections are, and to which document a row belongs."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

from embedfleet.vectors.source import SourceCollection
from embedfleet.views.layout import CHUNK, DOCUMENT


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """What the caller says of the layout.

    `tenant` is whose the collections are, if their names do not say it. `document_key` names the metadata
    that tells documents apart; None: the layout's own.
    """

    tenant: str
    document_key: str | None = None


@dataclass(frozen=True, slots=True)
class RowLabel:
    """To which document a row belongs, and which chunk of it the row is.

    `index` counts the chunks of a document from 0; None if the row does not say. `provider` and `model` are
    what the source calls the model of the vector, "" if it does not say.
    """

    media_id: str
    index: int | None
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What the metadata of a row say of its text and of its document.

    `start` and `end` are offsets of characters in the document's text, `chunks` is the number of its chunks;
    None if the row does not say. `heading` is "" if there is none.
    """

    start: int | None = None
    end: int | None = None
    chunks: int | None = None
    heading: str = ""
    page: int | None = None
    title: str | None = None
    source: str | None = None


class SourceLayout(Protocol):
    """How another system names its collections and its rows."""

    name: str
    """The name by which a caller chooses the layout."""

    own_keys: Set[str]
    """Metadata of rows that the layout itself writes. They do not become metadata of a document."""

    def tenant_of(self, collection: SourceCollection) -> str | None:
        """Return whose collection it is; None if the layout says nothing of it: then it is left alone."""
        ...

    def label(
        self, row_id: str, metadata: Mapping[str, Any], collection: SourceCollection
    ) -> RowLabel | None:
        """Return the row's label; None if the row does not say to which document it belongs."""
        ...

    def is_of_view(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a view of embedfleet wrote the row. What a view has is here already."""
        ...

    def facts(self, metadata: Mapping[str, Any]) -> RowFacts:
        """Return what the metadata of a row say."""
        ...


# SQL and Parquet hold pages and the like in 32 bits. What is larger is no page, place or count of anything.
_LARGEST_NUMBER = 2**31 - 1
_MOST_DIGITS = len(str(_LARGEST_NUMBER))


def text_at(metadata: Mapping[str, Any], *keys: str) -> str:
    """Return the text under the first of these keys that has one; "" if none has."""
    for key in keys:
        value = metadata.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def number_at(metadata: Mapping[str, Any], *keys: str) -> int | None:
    """Return the whole number under the first of these keys that has one, also one that is written as text.

    None if none has. A negative number, or one of more than 31 bits, does not count.
    """
    for key in keys:
        value = metadata.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_NUMBER:
            return value
    return None


def usual_facts(metadata: Mapping[str, Any]) -> RowFacts:
    """Return what metadata say under the keys that most systems use."""
    return RowFacts(
        start=number_at(metadata, "chunk_start", "start_char", "start_index", "start_offset"),
        end=number_at(metadata, "chunk_end", "end_char", "end_index", "end_offset"),
        chunks=number_at(metadata, "total_chunks"),
        heading=text_at(metadata, "section_title", "heading").replace("\0", ""),  # PostgreSQL takes no NUL
        page=number_at(metadata, "page_number", "page"),
        title=text_at(metadata, "title") or None,
        source=text_at(metadata, "source", "url") or None,
    )


USUAL_KEYS: frozenset[str] = frozenset(
    {
        *("chunk_start", "start_char", "start_index", "start_offset"),
        *("chunk_end", "end_char", "end_index", "end_offset"),
        *("chunk_index", "total_chunks", "section_title", "heading", "page_number", "page"),
        *("title", "source", "url", "media_id", "embedding_model", "embedding_provider"),
        *(DOCUMENT, CHUNK),  # a view of embedfleet has written the row, which another system may write again
    }
)
"""The keys that `usual_facts` and the labels of the layouts read, and those of a view."""
