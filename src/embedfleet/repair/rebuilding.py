"""Repairs the differences that verification has found.

To rebuild a collection is to empty it and to repair it: then verification reports every row as missing.
"""

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
from embedfleet.paging import pages
from embedfleet.records import chunks, store_fence
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

# One upsert and one transaction each. Small, so that an interruption loses little and workers wait little.
_ROWS_PER_UNIT = 256


class Rebuilding:
    """Writes the rows that SQL asks for, in units that may be interrupted anywhere and repeated."""

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
        """Write what is missing or wrong, delete what is extra, record the checksums of what is right.

        Returns how many differences this removed.
        """
        mended = await self._write(found.collection, found.missing + found.wrong, progress)
        mended += await self._delete(found.collection, found.extra)
        not_right = set(found.wrong) | set(found.undecided)
        right = [row_id for row_id in found.rounded + found.without_checksum if row_id not in not_right]
        await self._record_checksums(found.collection, right)
        return mended

    async def _write(
        self, collection: Collection, chunk_ids: Sequence[str], progress: Progress | None
    ) -> int:
        await self._store.ensure_collection(collection)
        mended = 0
        done = 0
        for page in pages(chunk_ids, _ROWS_PER_UNIT):
            targets = await self._database.read(partial(expected.targets, chunk_ids=page))
            vectors = await self._truth.of(collection, targets)
            writable = [target for target in targets if target.chunk_id in vectors]
            if writable:
                mended += await self._write_unit(collection, writable, vectors)
            done += len(page)
            if progress is not None:
                progress(done, len(chunk_ids))
        return mended

    async def _write_unit(
        self, collection: Collection, targets: Sequence[Target], vectors: Mapping[str, NDArray[np.float32]]
    ) -> int:
        ids = [target.chunk_id for target in targets]
        rows = VectorRows(
            ids=ids,
            vectors=np.stack([vectors[row_id] for row_id in ids]),
            metadatas=[target.metadata for target in targets],
            documents=[target.text for target in targets] if self._with_documents else None,
        )
        part_id = self._store.part_id
        await self._store.upsert(collection, rows)
        # Of the vectors read back: the store may round what it is given.
        checksums = checksums_of(*await self._store.vectors(collection, ids))
        described_by = {target.chunk_id: target.generation for target in targets}
        now = self._clock.now()
        # SQL is written after the store, as a storage worker does: a crash in between is repaired by
        # repeating.
        return await self._database.write(
            lambda conn: storing.record_rewritten(conn, described_by, checksums, now, part_id=part_id)
        )

    async def _delete(self, collection: Collection, chunk_ids: Sequence[str]) -> int:
        deleted = 0
        for page in pages(chunk_ids, _ROWS_PER_UNIT):
            # A worker may have written some of these rows since verification: those stay.
            allowed = await self._database.read(partial(_allowed, page=page, part_id=self._store.part_id))
            extra = [row_id for row_id in page if row_id not in allowed]
            await self._store.delete(collection, extra)
            deleted += len(extra)
        return deleted

    async def _record_checksums(self, collection: Collection, chunk_ids: Sequence[str]) -> None:
        for page in pages(chunk_ids, _ROWS_PER_UNIT):
            before = await self._database.read(partial(chunks.stored_vectors, chunk_ids=page))
            part_id = self._store.part_id
            checksums = checksums_of(*await self._store.vectors(collection, page))
            await self._database.write(
                partial(_set_checksums, before=before, checksums=checksums, part_id=part_id)
            )


async def open_emptied_store(
    open_store: Callable[[], Awaitable[VectorStore]],
    collections_to_drop: Iterable[Collection],
    own_directory: Path | None,
) -> tuple[VectorStore, Path | None]:
    """Open the store and drop these collections from it.

    If the store is too damaged for that, its whole directory is moved aside and an empty store is opened.
    Returns the store, and the path to which the damaged directory was moved (None: it was not).

    `own_directory` is the directory of an embedded store. None for a store that is a server: then there is
    nothing to move, and the store's error is raised.
    """
    store: VectorStore | None = None
    try:
        store = await open_store()
        for collection in collections_to_drop:
            await store.drop_collection(collection)
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
    """Rename the directory: add `why` and the time to its name. Returns the new path."""
    aside = directory.with_name(f"{directory.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    directory.rename(aside)
    return aside


def _allowed(conn: Connection, page: Sequence[str], part_id: str | None) -> set[str]:
    """Return which of these rows the store may hold. Raises StoreMoved if it is not the system's any more."""
    store_fence.require_current(conn, part_id)
    return expected.allowed_ids(conn, page)


def _set_checksums(
    conn: Connection, before: Mapping[str, StoredVector], checksums: Mapping[str, bytes], part_id: str | None
) -> None:
    """Record these checksums, except of rows that were written since `before` was read.

    Raises StoreMoved if they are not of the system's store any more.
    """
    document_lock.lock(conn, {record.document_id for record in before.values()})
    for chunk_id, record in chunks.stored_vectors(conn, list(before)).items():
        if record == before[chunk_id] and chunk_id in checksums:
            chunks.set_checksum(conn, record.document_id, chunk_id, checksums[chunk_id])
    store_fence.require_open(conn, part_id)
