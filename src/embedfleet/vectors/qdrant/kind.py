"""Qdrant as a kind of vector store (`vectors.registry.StoreKind`): always a server.

A token goes into the header `Authorization`, where Qdrant takes its API key too.
"""

from __future__ import annotations

from pathlib import Path

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.server_address import ServerAddress

TITLE = "Qdrant"


async def open_store(settings: Settings) -> VectorStore:
    from embedfleet.vectors.qdrant.store import QdrantStore

    return await QdrantStore.open(_address(settings), timeout_seconds=settings.vector_store.timeout_seconds)


async def open_for_queries(settings: Settings) -> VectorStore:
    return await open_store(settings)


def place(settings: Settings) -> str:
    return _address(settings).url


def own_directory(settings: Settings) -> Path | None:
    return None


def _address(settings: Settings) -> ServerAddress:
    store = settings.vector_store
    if store.url is None:
        raise ConfigError("setting `vector_store.url`: it is empty, but Qdrant is a server: say where it is")
    if store.token is None:
        return ServerAddress.parse(store.url, {})
    return ServerAddress.parse(store.url, {"Authorization": f"Bearer {store.token.get_secret_value()}"})
