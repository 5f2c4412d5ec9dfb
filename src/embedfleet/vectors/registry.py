"""The kinds of vector stores, and of sources to adopt.

To add one, write a package beside this module and a line in `STORES`, in `SOURCES`, or in both.
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
}

SOURCES: Mapping[str, str] = {
    "chroma": "embedfleet.vectors.chroma.source",
    "lancedb": "embedfleet.vectors.lancedb",
    "pgvector": "embedfleet.vectors.pgvector.source",
}


class StoreKind(Protocol):
    """One kind of vector store: the functions that a module named in `STORES` defines.

    Importing the module must be cheap: the store's libraries are imported by `open_store`.
    """

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

    def open_view(self, view: ViewSettings) -> ViewStore:
        """Return the store of a view. It connects at its first call.

        Raises ConfigError for a wrong setting.
        """
        ...


def store_kind(name: str) -> StoreKind:
    """Return the kind that `vector_store.kind` names. Raises ConfigError, which names the nearest one."""
    if name not in STORES:
        raise ConfigError(f"setting `vector_store.kind`: unknown vector store `{name}`: {hint(name, STORES)}")
    return cast("StoreKind", import_module(STORES[name]))


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
