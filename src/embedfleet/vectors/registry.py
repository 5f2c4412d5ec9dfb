"""The kinds of vector stores. To add one, write a package beside this module and a line in `STORES`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from embedfleet.errors import ConfigError, hint
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorStore

STORES: Mapping[str, str] = {
    "chroma": "embedfleet.vectors.chroma.kind",
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


def store_kind(name: str) -> StoreKind:
    """Return the kind that `vector_store.kind` names. Raises ConfigError, which names the nearest one."""
    if name not in STORES:
        raise ConfigError(f"setting `vector_store.kind`: unknown vector store `{name}`: {hint(name, STORES)}")
    return cast("StoreKind", import_module(STORES[name]))
