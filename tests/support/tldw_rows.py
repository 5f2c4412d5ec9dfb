"""Rows as tldw_server writes them, and its table of media."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelsSettings
from embedfleet.tokenising import cut, tokenised
from support.foreign_chroma import ForeignCollection, ForeignRows

MODEL, PROVIDER = "sentence-transformers/stub", "huggingface"


def stub_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """The vectors that the model `stub` makes of these texts. A long text is cut off, as in tldw_server."""
    catalogue = Catalogue(ModelsSettings())
    backend = catalogue.open("stub")
    info = catalogue.info("stub")
    return backend.embed_tokens(cut(tokenised(list(texts), info), info))


@dataclass(frozen=True, slots=True)
class Medium:
    """A media item: its text, and the chunks that were made of it. `more` is metadata of every row."""

    number: int
    chunks: Sequence[str]
    text: str | None = None
    more: Mapping[str, Any] | None = None

    @property
    def content(self) -> str:
        return "\n\n".join(self.chunks) if self.text is None else self.text


def rows_of(
    media: Sequence[Medium], *, model: str = MODEL, pattern: str = "media_{}_chunk_{}"
) -> ForeignRows:
    """The rows of these media items, with the vectors of the model `stub`."""
    texts = [chunk for medium in media for chunk in medium.chunks]
    ids: list[str] = []
    metadatas: list[dict[str, Any]] = []
    for medium in media:
        start = 0
        for index, chunk in enumerate(medium.chunks):
            ids.append(pattern.format(medium.number, index))
            metadatas.append(
                {
                    "media_id": str(medium.number),
                    "chunk_index": index,
                    "chunk_start": start,
                    "chunk_end": start + len(chunk),
                    "chunk_type": "text",
                    "title": f"Title {medium.number}",
                    "author": "someone",
                    "embedding_model": model,
                    "embedding_provider": PROVIDER,
                    **(medium.more or {}),
                }
            )
            start += len(chunk) + len("\n\n")
    return ForeignRows(ids, stub_vectors(texts), metadatas, texts)


def media_collection(user: str, rows: ForeignRows) -> ForeignCollection:
    return ForeignCollection(f"user_{user}_media_embeddings", rows)


def write_media(file: Path, media: Sequence[Medium], *, deleted: Sequence[int] = ()) -> None:
    """Write the table `Media` of one user."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")  # as tldw_server does
        connection.execute(
            "CREATE TABLE Media (id INTEGER PRIMARY KEY, title TEXT, url TEXT, content TEXT, "
            "is_trash INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0, "
            "vector_processing INTEGER NOT NULL DEFAULT 0)"
        )
        connection.executemany(
            "INSERT INTO Media (id, title, url, content, deleted) VALUES (?, ?, ?, ?, ?)",
            [
                (
                    one.number,
                    f"Title {one.number}",
                    f"https://example.com/{one.number}",
                    one.content,
                    one.number in deleted,
                )
                for one in media
            ],
        )
