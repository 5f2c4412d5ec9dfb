"""Live documents of one passage each, written straight to SQL and to a vector store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.document_metadata import written
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.records import chunks, collections, documents, identity
from embedfleet.records import generations as generation_records
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.collections import Collection, Wanted
from embedfleet.records.documents import DocumentName
from embedfleet.records.generations import NewGeneration, Recipe
from embedfleet.records.segments import Segment
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorRows, VectorStore


@dataclass(frozen=True)
class Document:
    """What is known of a document. `text` is its only passage."""

    media_id: str
    text: str
    metadata: Mapping[str, Any]
    source: str | None = None
    heading: str = ""
    created_at: float = 1_000.0

    @property
    def chunk_id(self) -> str:
        return hashlib.sha256(f"{self.media_id} {self.text}".encode()).hexdigest()[:32]


def write_live(
    conn: Connection, tenant: str, space: str, dim: int, made: Sequence[Document], number: int = 1
) -> Collection:
    """Write documents that readers see. Return their collection."""
    wanted = Wanted(tenant, "stub", space, dim)
    collection = collections.ensure(conn, [wanted])[wanted.key]
    ids = [identity.document_id(tenant, one.media_id) for one in made]
    document_lock.lock(conn, ids)
    for name, one in zip(ids, made, strict=True):
        documents.ensure_documents(
            conn, [DocumentName(name, tenant, one.media_id, one.source)], one.created_at
        )
    generation_ids = generation_records.add_generations(
        conn,
        [
            NewGeneration(
                name,
                number,
                Recipe(one.chunk_id, None, "text", len(one.text), ChunkingConfig(), 64),
                collection,
                [Segment.of(0, 0, one.text)],
                1,
                written_metadata=written(one.metadata),
            )
            for name, one in zip(ids, made, strict=True)
        ],
    )
    rows = [
        (name, generation_id, [ChunkRow(0, one.chunk_id, 0, len(one.text), 1, one.heading)])
        for name, generation_id, one in zip(ids, generation_ids, made, strict=True)
    ]
    chunks.add(conn, rows)
    generations = generation_records.generations_by_id(conn, generation_ids)
    stored = [
        (generations[generation_id], [one.chunk_id])
        for generation_id, one in zip(generation_ids, made, strict=True)
    ]
    chunks.record_stored(conn, stored, {})
    generation_records.mark_live(conn, list(zip(ids, generation_ids, strict=True)))
    return collection


async def store_live(
    database: Database,
    store: VectorStore,
    tenant: str,
    made: Sequence[Document],
    vectors: NDArray[np.float32],
    number: int = 1,
    *,
    space: str = "space",
) -> Collection:
    """Write documents that readers see, with `vectors` float32 (n, dim). Return their collection."""
    dim = vectors.shape[1]
    collection = await database.write(lambda conn: write_live(conn, tenant, space, dim, made, number))
    await store.ensure_collection(collection)
    ids = [one.chunk_id for one in made]
    metadatas = [
        {"job_id": "j"} | {name: value for name, value in one.metadata.items() if value != []} for one in made
    ]
    await store.upsert(collection, VectorRows(ids, vectors, metadatas, None))
    return collection
