"""The storage worker writes vectors to the vector store, records them in one SQL transaction, then acks.

If the store is in the database of the records, both are committed in that transaction. Otherwise it writes
the store first. In any case it reads the vectors back for their checksums. After a crash before the
transaction, the redelivered task finds the rows and records them. If the run of the job has ended by the time
its vectors are written, the transaction leaves the vectors to deletion (`lifecycle.storing`).
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Mapping, Sequence, Set
from functools import partial

import numpy as np
from sqlalchemy import Connection

from embedfleet.errors import Permanent, SpaceMismatch, StoreMoved, Transient
from embedfleet.lifecycle import storing
from embedfleet.lifecycle.completion import give_up_batch
from embedfleet.lifecycle.storing import BatchToStore, VectorsToWrite, WrittenVectors
from embedfleet.queue.broker import Lease
from embedfleet.queue_schemas import Stage, StorageTask
from embedfleet.records.collections import Collection
from embedfleet.records.metadata import Metadata, chunk_metadata
from embedfleet.settings import VectorStoreSettings
from embedfleet.vectors.checksums import checksums_of, same_direction
from embedfleet.vectors.port import CommitsWithRecords, RowsToCommit, VectorRows, VectorStore
from embedfleet.vectors.store_room import StoreBehind, StoreRoom
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded
from embedfleet.workers.services import Services


class MarkedForDeletion(Transient):
    """An id of the batch is marked for deletion. The batch waits until the deletion is done."""


class StorageLoop(StageLoop):
    """Writes `StorageTask`s to the vector store and SQL, and completes jobs."""

    stage = Stage.STORAGE

    def __init__(
        self, name: str, services: Services, *, store: VectorStore, settings: VectorStoreSettings
    ) -> None:
        super().__init__(name, services)
        self._store = store
        self._settings = settings
        self._room = StoreRoom(store, settings)
        self._waits = services.metrics.storage_waits_total

    async def has_room(self) -> bool:
        try:
            await self._room.require()
        except StoreBehind:
            self._waits.inc()
            raise
        return True

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, failures = decoded(leases, StorageTask)
        # Before the first write: if the vectors move to another store in between, none of this is recorded.
        part_id = self._store.part_id
        with_records = self._store.with_records()
        with_texts = self._settings.store_documents
        found = await self._database.read(lambda conn: storing.look_up(conn, messages, with_texts=with_texts))
        failures.update({lease.task.id: _being_deleted(lease) for lease in found.waiting})
        by_collection: dict[Collection, list[BatchToStore]] = {}
        for batch in found.to_store:
            by_collection.setdefault(batch.generation.collection, []).append(batch)
        answers = await asyncio.gather(
            *(
                self._try_to_write(with_records, collection, batches)
                for collection, batches in by_collection.items()
            )
        )
        written: list[tuple[Sequence[BatchToStore], WrittenVectors | RowsToCommit]] = []
        for batches, answer in zip(by_collection.values(), answers, strict=True):
            if isinstance(answer, Exception):
                failures.update({batch.lease.task.id: answer for batch in batches})
            else:
                written.append((batches, answer))
        try:
            again = await self._record(written, part_id)
        except StoreMoved:
            await self._store.follow()
            raise
        return {**failures, **{batch.lease.task.id: _being_deleted(batch.lease) for batch in again}}

    async def give_up(self, lease: Lease, reason: str) -> None:
        await give_up_batch(self._database, lease, reason, self._clock.now())

    async def _try_to_write(
        self,
        with_records: CommitsWithRecords | None,
        collection: Collection,
        batches: Sequence[BatchToStore],
    ) -> WrittenVectors | RowsToCommit | Exception:
        try:
            if with_records is not None:
                return await self._prepare(with_records, collection, batches)
            return await self._write(collection, batches)
        except Exception as exc:  # noqa: BLE001 - a failure of one collection must not reach another's tasks
            return exc

    async def _prepare(
        self, store: CommitsWithRecords, collection: Collection, batches: Sequence[BatchToStore]
    ) -> RowsToCommit:
        """Prepare the rows of a collection for the transaction that records them.

        All of them: after a crash, either the rows are there and the batch is done, or both are not.
        """
        await self._store.ensure_collection(collection)
        rows = _vector_rows(batches, set(), with_documents=self._settings.store_documents)
        prepared = await store.prepare(collection, rows)
        for chunk_id, reason in prepared.refused.items():
            self._log.error("row refused: {}", reason, chunk=chunk_id)
        self._metrics.batch_chunks.labels(self.stage.value).observe(len(rows.ids))
        return prepared

    async def _write(self, collection: Collection, batches: Sequence[BatchToStore]) -> WrittenVectors:
        """Write the vectors of a collection to the store, and read them back."""
        await self._store.ensure_collection(collection)
        rows = await self._wrong_or_missing(collection, batches)
        refused = await self._upsert(collection, rows)
        held = [cid for batch in batches for cid in batch.chunk_ids if cid not in refused]
        # Read the vectors back: the store may scale a vector, and the checksum must be of what it holds.
        checksums = checksums_of(*await self._store.vectors(collection, held)) if held else {}
        self._metrics.batch_chunks.labels(self.stage.value).observe(len(rows.ids))
        return WrittenVectors(checksums, refused)

    async def _record(
        self,
        written: Sequence[tuple[Sequence[BatchToStore], WrittenVectors | RowsToCommit]],
        part_id: str | None,
    ) -> list[BatchToStore]:
        """Record what was written to all collections, in one unit. Return what must be stored again."""
        if not written:
            return []
        batches = [batch for some, _ in written for batch in some]
        together = _together([answer for _, answer in written])
        now = self._clock.now()
        return await self._database.write(
            lambda conn: storing.record_batches(conn, batches, together, now, part_id=part_id)
        )

    async def _upsert(self, collection: Collection, rows: VectorRows) -> Mapping[str, str]:
        """Write the rows. Return, by id, why the store refuses some of them; halving finds those."""
        if not rows.ids:
            return {}
        try:
            await self._store.upsert(collection, rows)
        except SpaceMismatch:
            raise
        except Permanent as exc:
            if len(rows.ids) == 1:
                self._log.error("row refused: {}", exc, chunk=rows.ids[0])
                return {rows.ids[0]: str(exc)}
            middle = len(rows.ids) // 2
            first = await self._upsert(collection, rows.part(0, middle))
            return {**first, **await self._upsert(collection, rows.part(middle, len(rows.ids)))}
        return {}

    async def _wrong_or_missing(self, collection: Collection, batches: Sequence[BatchToStore]) -> VectorRows:
        """Return the rows to write. On a redelivery, rows that the store holds correctly are left out.

        A kill during a second write of an id can corrupt Chroma's index (chroma #7678), so these rows are
        not written again.
        """
        again = [batch for batch in batches if batch.lease.attempt > 1]
        there = await self._right_rows(collection, again) if again else set()
        return _vector_rows(batches, there, with_documents=self._settings.store_documents)

    async def _right_rows(self, collection: Collection, batches: Sequence[BatchToStore]) -> set[str]:
        """Return the ids whose row holds the message's vector, up to length and rounding."""
        wanted = {
            chunk_id: vector
            for batch in batches
            for chunk_id, vector in zip(batch.chunk_ids, batch.message.vectors_array(), strict=True)
        }
        ids, held = await self._store.vectors(collection, list(wanted))
        if not ids:
            return set()
        same = same_direction(held, np.stack([wanted[row_id] for row_id in ids]))
        return {row_id for row_id, right in zip(ids, same, strict=True) if right}


def _together(answers: Sequence[WrittenVectors | RowsToCommit]) -> WrittenVectors | VectorsToWrite:
    """Join what was written to, or prepared for, the collections of one store."""
    # Chunk ids are derived from document and space, so collections share none.
    refused = dict(ChainMap(*(dict(answer.refused) for answer in answers)))
    written = [answer for answer in answers if isinstance(answer, WrittenVectors)]
    if written:
        return WrittenVectors(dict(ChainMap(*(dict(answer.checksums) for answer in written))), refused)
    to_commit = [answer for answer in answers if not isinstance(answer, WrittenVectors)]
    return VectorsToWrite(partial(_write_within, to_commit), refused)


def _write_within(
    to_commit: Sequence[RowsToCommit], conn: Connection, wanted: Set[str]
) -> Mapping[str, bytes]:
    """Write the rows of these ids in the unit. Return the checksums of what the store then holds."""
    checksums: dict[str, bytes] = {}
    for rows in to_commit:
        checksums.update(checksums_of(*rows.write(conn, wanted)))
    return checksums


def _vector_rows(batches: Sequence[BatchToStore], there: set[str], *, with_documents: bool) -> VectorRows:
    """Join the rows of all batches, without the ids in `there`, which the store holds correctly."""
    ids: list[str] = []
    metadatas: list[Metadata] = []
    texts: list[str] = []
    for batch in batches:
        place_of = {row.chunk_id: place for place, row in enumerate(batch.rows)}
        for chunk_id in batch.chunk_ids:
            if chunk_id not in there:
                place = place_of[chunk_id]
                ids.append(chunk_id)
                metadatas.append(chunk_metadata(batch.generation, batch.message.job_id, batch.rows[place]))
                if with_documents:
                    texts.append(batch.texts[place])
    vectors = np.concatenate([batch.message.vectors_array() for batch in batches])
    if there:
        vectors = vectors[[chunk_id not in there for batch in batches for chunk_id in batch.chunk_ids]]
    return VectorRows(ids, vectors, metadatas, texts if with_documents else None)


def _being_deleted(lease: Lease) -> MarkedForDeletion:
    return MarkedForDeletion(f"batch {lease.task.id}: an older version's rows go first")
