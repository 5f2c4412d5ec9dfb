"""Chroma as a kind of vector store (`vectors.registry.StoreKind`): embedded or on a server.

If the settings have `vector_store.url`, the store is on the server there. Otherwise it is a directory in the
data directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from embedfleet.settings import Settings, VectorStoreSettings, ViewSettings
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.server_address import ServerAddress
from embedfleet.vectors.view_port import ViewStore

TITLE = "Chroma"


def chroma_directory(data_dir: Path) -> Path:
    """Return the directory in which embedded Chroma keeps its files."""
    return data_dir / "chroma"


async def open_store(settings: Settings) -> VectorStore:
    url = settings.vector_store.url
    if url is None:
        from embedfleet.vectors.chroma.embedded import ChromaVectorStore

        return await ChromaVectorStore.open(chroma_directory(settings.data_dir))
    from embedfleet.vectors.chroma.server import ChromaServerStore

    return await ChromaServerStore.open(
        url,
        headers=token_headers(settings.vector_store),
        timeout_seconds=settings.vector_store.timeout_seconds,
    )


async def open_for_queries(settings: Settings) -> VectorStore:
    if settings.vector_store.url is not None:
        return await open_store(settings)
    from embedfleet.vectors.chroma.embedded import ChromaInTurn

    return await ChromaInTurn.open(chroma_directory(settings.data_dir))


def place(settings: Settings) -> str:
    url = settings.vector_store.url
    return str(chroma_directory(settings.data_dir)) if url is None else ServerAddress.parse(url, {}).url


def own_directory(settings: Settings) -> Path | None:
    return chroma_directory(settings.data_dir) if settings.vector_store.url is None else None


def open_view(view: ViewSettings) -> ViewStore:
    from embedfleet.vectors.chroma.view_store import ChromaViewDirectories, ChromaViewServer

    if view.url is not None:
        return ChromaViewServer(view.url, token_headers(view), timeout_seconds=view.timeout_seconds)
    assert view.path is not None, "`deployment` refuses a view without a place"
    return ChromaViewDirectories(view.path, beside_reader=view.beside_reader)


def token_headers(settings: VectorStoreSettings | ViewSettings) -> Mapping[str, str]:
    """Return the headers that carry the token to the server, or to the proxy before it."""
    if settings.token is None:
        return {}
    token = settings.token.get_secret_value()
    return {settings.token_header: f"Bearer {token}" if settings.token_header == "Authorization" else token}
