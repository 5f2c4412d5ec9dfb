"""The fleet's side of a shadow run: copies of documents are ingested, read and deleted again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.chunking.preparation import PREPARATION
from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import NotYetVisible
from embedfleet.lifecycle import ending
from embedfleet.queue_schemas import ChunkInfo
from embedfleet.records import documents, identity
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.tenant_access import TenantAccess
from embedfleet.traffic.fleet_path import FleetPath
from embedfleet.traffic.paths import IngestRequest, StoredChunk
from embedfleet.vectors.port import CollectionKey, VectorStore

# A document that readers do not see after this time counts as failed.
WAIT_SECONDS = 60.0
_PAGE = 1_000


class ShadowFleet(Protocol):
    """The side of a shadow run that is compared."""

    async def ingest(self, copy: IngestRequest) -> str:
        """Ingest the copy of a document, and return the id of its job when readers see it.

        Raises if they do not.
        """
        ...

    async def chunks(self, copy: IngestRequest, of: IngestRequest, job_id: str) -> Sequence[StoredChunk]:
        """Return what is stored of the copy, with the ids that the document itself would have."""
        ...

    async def drop(self, copy: IngestRequest) -> None:
        """Have the copy deleted. It may be called at any time, and again."""
        ...


def copy_for(request: IngestRequest, shadow_tenant: str) -> IngestRequest:
    """Return a copy of the request under the run's tenant, which no other copy replaces."""
    return replace(request, tenant=shadow_tenant, media_id=f"copy-{secrets.token_hex(12)}")


class StoredVectors(Protocol):
    """Reads vectors of the fleet. `StoreVectors` and `client.shadow_vectors.ServedVectors` do."""

    async def of(
        self, tenant: str, job_id: str, collection: CollectionKey, chunk_ids: Sequence[str]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return float32 (dim,) for each of these chunks of the job that has a vector, by id."""
        ...


class StoreVectors:
    """Reads vectors from the fleet's vector store, for a process that has it open."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    async def of(
        self, tenant: str, job_id: str, collection: CollectionKey, chunk_ids: Sequence[str]
    ) -> Mapping[str, NDArray[np.float32]]:
        ids, vectors = await self._store.vectors(collection, chunk_ids)
        return dict(zip(ids, vectors, strict=True))


class FleetInReach:
    """The fleet of this process's database. A `ShadowFleet`."""

    def __init__(
        self,
        access_of: Callable[[str], TenantAccess],
        vectors: StoredVectors,
        database: Database,
        *,
        clock: Clock | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`access_of` is `EmbeddingJobManager.of`."""
        self._access_of = access_of
        self._path = FleetPath(access_of, wait_seconds=wait_seconds)
        self._vectors = vectors
        self._database = database
        self._clock = clock or SystemClock()
        self._wait_seconds = wait_seconds

    async def ingest(self, copy: IngestRequest) -> str:
        made = await self._path(copy)
        assert made.job_id is not None
        if not made.visible:
            raise NotYetVisible(f"job {made.job_id} is not done after {self._wait_seconds:g} s")
        return made.job_id

    async def chunks(self, copy: IngestRequest, of: IngestRequest, job_id: str) -> Sequence[StoredChunk]:
        access = self._access_of(copy.tenant)
        found: list[StoredChunk] = []
        names: TrueIds | None = None
        after: str | None = None
        while True:
            page = await access.list_chunks(media_id=copy.media_id, limit=_PAGE, after=after)
            names = names or TrueIds(copy, of, page.collection.space)
            ids = [one.chunk_id for one in page.chunks]
            vectors = await self._vectors.of(copy.tenant, job_id, page.collection, ids)
            found += [
                StoredChunk(true_id, one.start, one.end, vectors.get(one.chunk_id))
                for true_id, one in zip(names.of(page.chunks), page.chunks, strict=True)
            ]
            after = page.chunks.next_cursor
            if after is None:
                return found

    async def drop(self, copy: IngestRequest) -> None:
        document_id = identity.document_id(copy.tenant, copy.media_id)

        def hide(conn: Connection) -> None:
            document_lock.lock(conn, [document_id])
            # Without a receipt for each copy: the run's tenant is deleted at its end, with a receipt.
            ending.hide(conn, list(documents.existing_among(conn, [document_id])), self._clock.now())

        await self._database.write(hide)


class TrueIds:
    """Gives the chunks of a copy the ids that they would have in the document itself.

    An id is derived from the name of its document, so a copy has others. An id that cannot be derived again
    is returned as it is.
    """

    def __init__(self, copy: IngestRequest, of: IngestRequest, space: str) -> None:
        self._copied = identity.ChunkIds(identity.document_id(copy.tenant, copy.media_id), space)
        self._true = identity.ChunkIds(identity.document_id(of.tenant, of.media_id), space)
        self._content = of.content

    def of(self, chunks: Iterable[ChunkInfo]) -> list[str]:
        """Return the ids of the next chunks, in order."""
        return [self._of(one) for one in chunks]

    def _of(self, chunk: ChunkInfo) -> str:
        text = self._content[chunk.start : chunk.end]
        # By which rules the model reads a text is not recorded, and depends on the text alone. So equal texts
        # have the same reading, and a try with the other one spends no number that one of them needs.
        for reading in ("", PREPARATION):
            copied = self._copied.next_id(text, chunk.context, reading=reading)
            true_id = self._true.next_id(text, chunk.context, reading=reading)
            if copied == chunk.chunk_id:
                return true_id
        return chunk.chunk_id
