"""Readers of views, as other systems are written: they know nothing of embedfleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chromadb
import numpy as np
from chromadb.api import ClientAPI, ServerAPI
from chromadb.api.client import Client
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings, System
from numpy.typing import NDArray

from embedfleet.vectors.chroma.directory_users import wait_until_closed


@contextmanager
def open_client(directory: Path) -> Iterator[ClientAPI]:
    """A `PersistentClient`, which is gone at the end: chromadb would keep its system for the next one."""
    system = System(
        Settings(
            anonymized_telemetry=False,
            is_persistent=True,
            persist_directory=str(directory),
            chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        )
    )
    system.instance(ServerAPI)
    system.start()
    client = Client.from_system(system)
    try:
        yield client
    finally:
        client.close()
        wait_until_closed(directory)


@contextmanager
def open_server_client(url: str) -> Iterator[ClientAPI]:
    """An `HttpClient`, which is gone at the end."""
    parts = urlsplit(url)
    client = chromadb.HttpClient(
        host=parts.hostname or "", port=parts.port or 80, settings=Settings(anonymized_telemetry=False)
    )
    try:
        yield client
    finally:
        # chromadb leaves its connections open, and those of a second client that it keeps for itself.
        for part in (client, client._admin_client):
            part._server._session.close()
        SharedSystemClient.clear_system_cache()


@dataclass(frozen=True)
class Found:
    """A document as the RAG of tldw_server has it after a search."""

    id: str
    content: str
    score: float
    metadata: dict[str, Any]


@dataclass(frozen=True)
class StoredRow:
    """A whole row of a collection."""

    text: str
    metadata: dict[str, Any]
    vector: NDArray[np.float32]


class TldwReader:
    """Searches the media of one user as tldw_server's RAG does."""

    def __init__(self, client: ClientAPI, user: str) -> None:
        # With the embedding function that chromadb chooses, as tldw_server names none.
        self.collection = client.get_or_create_collection(f"user_{user}_media_embeddings")

    def query_model(self, media_ids: Sequence[str]) -> str | None:
        """What embeds the query, by the rows of the chosen media."""
        got = self.collection.get(where=_of_media(media_ids), include=["metadatas"], limit=5)
        named = {f"{row['embedding_provider']}:{row['embedding_model']}" for row in got["metadatas"] or ()}
        return named.pop() if len(named) == 1 else None

    def search(
        self,
        vector: NDArray[np.float32],
        *,
        k: int = 10,
        media_ids: Sequence[str] = (),
        where: Mapping[str, Any] | None = None,
    ) -> list[Found]:
        conditions = [dict(where)] if where else []
        if media_ids:
            conditions.append(_of_media(media_ids))
        wanted = None if not conditions else conditions[0] if len(conditions) == 1 else {"$and": conditions}
        got = self.collection.query(
            query_embeddings=vector.reshape(1, -1),
            n_results=k,
            where=wanted,
            include=["documents", "metadatas", "distances"],
        )
        return [
            Found(metadata["media_id"], text, 1.0 - distance, dict(metadata))
            for text, metadata, distance in zip(
                got["documents"][0], got["metadatas"][0], got["distances"][0], strict=True
            )
        ]

    def rows(self) -> dict[str, StoredRow]:
        """Everything in the collection, by id."""
        got = self.collection.get(include=["documents", "metadatas", "embeddings"])
        return {
            row_id: StoredRow(text, dict(metadata), np.asarray(vector, dtype=np.float32))
            for row_id, text, metadata, vector in zip(
                got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True
            )
        }


def _of_media(media_ids: Sequence[str]) -> dict[str, Any]:
    return {"media_id": media_ids[0]} if len(media_ids) == 1 else {"media_id": {"$in": list(media_ids)}}


def write_as_tldw(client: ClientAPI, user: str, media_id: str, texts: Sequence[str], dim: int) -> None:
    """Store rows of a document as tldw_server's own path does."""
    collection = client.get_or_create_collection(f"user_{user}_media_embeddings")
    rng = np.random.default_rng(len(texts))
    collection.upsert(
        ids=[f"media_{media_id}_chunk_{n}" for n in range(len(texts))],
        embeddings=rng.normal(size=(len(texts), dim)).astype(np.float32),
        documents=list(texts),
        metadatas=[
            {
                "media_id": media_id,
                "chunk_index": n,
                "chunk_start": 0,
                "chunk_end": len(text),
                "embedding_model": "old",
                "embedding_provider": "huggingface",
                "title": "old path",
                "author": "",
            }
            for n, text in enumerate(texts)
        ],
    )
