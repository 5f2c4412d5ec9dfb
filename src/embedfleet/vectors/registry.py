"""The kinds of vector stores, of stores that views lie in, and of sources to adopt.

To add one, write a package beside this module and a line in `STORES`, `VIEWS` or `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from embedfleet.errors import ConfigError, hint
from embedfleet.settings import Settings, ViewSettings
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.source import Source
from embedfleet.vectors.view_port import ViewStore

STORES: Mapping[str, str] = {
    "chroma": "embedfleet.vectors.chroma.kind",
    "lancedb": "embedfleet.vectors.lancedb.kind",
    "pgvector": "embedfleet.vectors.pgvector.kind",
    "qdrant": "embedfleet.vectors.qdrant.kind",
}

VIEWS: Mapping[str, str] = {
    "chroma": "embedfleet.vectors.chroma.kind",
}

SOURCES: Mapping[str, str] = {
    "chroma": "embedfleet.vectors.chroma.source",
    "lancedb": "embedfleet.vectors.lancedb.source",
    "pgvector": "embedfleet.vectors.pgvector.source",
}


class StoreKind(Protocol):
    """One kind of vector store: the functions that a module named in `STORES` defines.

    Importing the module must be cheap: the store's libraries are imported by `open_store`.
    """

    TITLE: str
    """What its makers call it, for messages."""

    async def open_store(self, settings: Settings) -> VectorStore:
        """Open the store of these settings.

        Raises ConfigError for a wrong setting, VectorStoreUnavailable if the store cannot be reached or read.
        """
        ...

    async def open_for_queries(self, settings: Settings) -> VectorStore:
        """Open the store for queries alone, so that it answers the first one soon.

        If the store is in the data directory, other processes may query it at the same time, but none may
        write. Raises as `open_store` does.
        """
        ...

    def place(self, settings: Settings) -> str:
        """Return where the vectors are, for messages: without user, password or token."""
        ...

    def own_directory(self, settings: Settings) -> Path | None:
        """Return the directory in the data directory that holds the whole store; None if a server holds it.

        While the store is closed, renaming this directory leaves an empty store.
        """
        ...


def store_kind(name: str) -> StoreKind:
    """Return the kind that `vector_store.kind` names. Raises ConfigError, which names the nearest one."""
    if name not in STORES:
        raise ConfigError(f"setting `vector_store.kind`: unknown vector store `{name}`: {hint(name, STORES)}")
    return cast("StoreKind", import_module(STORES[name]))


class ViewKind(Protocol):
    """One kind of store that views lie in: the function that a module named in `VIEWS` defines."""

    def open_view(self, view: ViewSettings) -> ViewStore:
        """Return the store of a view. It connects at its first call.

        Raises ConfigError for a wrong setting.
        """
        ...


def view_kind(name: str) -> ViewKind:
    """Return the kind of store in which a layout of views (`views.layout.Layout`) has its rows."""
    return cast("ViewKind", import_module(VIEWS[name]))


class SourceKind(Protocol):
    """One kind of source: the functions that a module named in `SOURCES` defines."""

    async def open_source(self, place: str, *, scratch: Path) -> Source:
        """Open the source at this place: a path or a URL.

        `scratch` is an existing directory in which the source may make a copy that it removes at `close`.
        Raises ConfigError if no source of this kind is there, VectorStoreUnavailable if it cannot be reached
        or read, StorageFull if there is no room for a copy.
        """
        ...


def source_kind(name: str) -> SourceKind:
    """Return the kind of source of this name. Raises ConfigError, which names the nearest one."""
    if name not in SOURCES:
        raise ConfigError(f"unknown kind of source `{name}`: {hint(name, SOURCES)}")
    return cast("SourceKind", import_module(SOURCES[name]))
