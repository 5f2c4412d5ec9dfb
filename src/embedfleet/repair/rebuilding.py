"""Mends what verification found; a rebuilt collection is one of which everything is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import VectorStoreDied, VectorStoreUnavailable
from embedfleet.lifecycle import storing
from embedfleet.records import chunks
from embedfleet.records.chunks import StoredVector
from embedfleet.records.collections import Collection
from embedfleet.repair import expected
from embedfleet.repair.expected import Target
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Differences, Progress
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.vectors.checksums import checksums_of
from embedfleet.vectors.port import VectorRows, VectorStore

_ROWS_PER_UNIT = 256


class Rebuilding:
    """Writes what SQL says, in units that may be interrupted anywhere and done again."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        truth: TrueVectors,
        clock: Clock,
        *,
        with_documents: bool,
    ) -> None:
        self._database = database
        self._store = store
        self._truth = truth
        self._clock = clock
        self._with_documents = with_documents

    async def mend(self, found: Differences, *, progress: Progress | None = None) -> int:
        """Returns how many of its differences are no more."""
        mended = await self._write(found.collection, found.missing + found.wrong, progress)
        mended += await self._delete(found.collection, found.extra)
        wrong = set(found.wrong) | set(found.unjudged)
        right = [row_id for row_id in found.rounded + found.unknown if row_id not in wrong]
        await self._renew_checksums(found.collection, right)
        return mended

    async def _write(
        self, collection: Collection, chunk_ids: Sequence[str], progress: Progress | None
    ) -> int:
        await self._store.ensure_collection(collection.name, space=collection.space, dim=collection.dim)
        mended = 0
        for start in range(0, len(chunk_ids), _ROWS_PER_UNIT):
            part = chunk_ids[start : start + _ROWS_PER_UNIT]
            targets = await self._database.read(partial(expected.targets, chunk_ids=part))
            vectors = await self._truth.of(collection, targets)
            ready = [target for target in targets if target.chunk_id in vectors]
            if ready:
                mended += await self._write_unit(collection, ready, vectors)
            if progress is not None:
                progress(min(start + _ROWS_PER_UNIT, len(chunk_ids)), len(chunk_ids))
        return mended

    async def _write_unit(
        self, collection: Collection, ready: Sequence[Target], vectors: Mapping[str, NDArray[np.float32]]
    ) -> int:
        ids = [target.chunk_id for target in ready]
        rows = VectorRows(
            ids=ids,
            vectors=np.stack([vectors[row_id] for row_id in ids]),
            metadatas=[target.metadata for target in ready],
            documents=[target.text for target in ready] if self._with_documents else None,
        )
        await self._store.upsert(collection.name, rows)
        checksums = checksums_of(*await self._store.vectors(collection.name, ids))
        described_by = {target.chunk_id: target.generation for target in ready}
        now = self._clock.now()
        return await self._database.write(
            lambda conn: storing.record_rewritten(conn, described_by, checksums, now)
        )

    async def _delete(self, collection: Collection, chunk_ids: Sequence[str]) -> int:
        deleted = 0
        for start in range(0, len(chunk_ids), _ROWS_PER_UNIT):
            part = chunk_ids[start : start + _ROWS_PER_UNIT]
            explained = await self._database.read(partial(expected.explained, chunk_ids=part))
            surplus = [row_id for row_id in part if row_id not in explained]
            await self._store.delete(collection.name, surplus)
            deleted += len(surplus)
        return deleted

    async def _renew_checksums(self, collection: Collection, chunk_ids: Sequence[str]) -> None:
        for start in range(0, len(chunk_ids), _ROWS_PER_UNIT):
            part = chunk_ids[start : start + _ROWS_PER_UNIT]
            seen = await self._database.read(partial(chunks.stored_vectors, chunk_ids=part))
            checksums = checksums_of(*await self._store.vectors(collection.name, part))
            await self._database.write(partial(_renew, seen=seen, checksums=checksums))


async def emptied_store(
    open_store: Callable[[], Awaitable[VectorStore]],
    dropped: Iterable[Collection],
    own_directory: Path | None,
) -> tuple[VectorStore, Path | None]:
    """The store without these collections. (It, and where the whole of the broken one was put, if it was.)

    Only a directory of our own can be put aside: with `own_directory` None what the store raises is raised.
    """
    store: VectorStore | None = None
    try:
        store = await open_store()
        for collection in dropped:
            await store.drop_collection(collection.name)
    except (VectorStoreUnavailable, VectorStoreDied) as exc:
        if store is not None:
            await store.close()
        if own_directory is None:
            raise
        aside = await asyncio.to_thread(put_aside, own_directory, "broken")
        logger.warning("the vector store cannot be used and was moved to {}: {}", aside, exc)
        return await open_store(), aside
    except BaseException:
        if store is not None:
            await store.close()
        raise
    return store, None


def put_aside(directory: Path, why: str) -> Path:
    """Rename it, after why and when; returns what it is called now."""
    aside = directory.with_name(f"{directory.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    directory.rename(aside)
    return aside


def _renew(conn: Connection, seen: Mapping[str, StoredVector], checksums: Mapping[str, bytes]) -> None:
    document_lock.lock(conn, {record.document_id for record in seen.values()})
    now = chunks.stored_vectors(conn, list(seen))
    for chunk_id, record in now.items():
        if record == seen[chunk_id] and chunk_id in checksums:
            chunks.set_checksum(conn, record.document_id, chunk_id, checksums[chunk_id])
